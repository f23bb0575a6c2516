namespace SieveAttention;

/// <summary>Sizes of a tensor: [batch, heads, rows, channels]. Each is at least 1 in a tensor.</summary>
/// <param name="Batch">Entries of the batch.</param>
/// <param name="Heads">Heads: of queries, or of keys and values.</param>
/// <param name="Rows">Rows of a head: positions of queries, or of keys and values.</param>
/// <param name="Channels">Elements of a row; 1 for a tensor with one value a row.</param>
public readonly record struct TensorShape(int Batch, int Heads, int Rows, int Channels)
{
    /// <summary>Number of elements.</summary>
    /// <exception cref="OverflowException">The number does not fit a <see cref="long"/>.</exception>
    public long Count => checked((long)Batch * Heads * Rows * Channels);

    /// <summary>Size of a dimension, 0 = batch to 3 = channels.</summary>
    internal int this[int dimension] => dimension switch
    {
        0 => Batch,
        1 => Heads,
        2 => Rows,
        3 => Channels,
        _ => throw new ArgumentOutOfRangeException(
            nameof(dimension), dimension, "A tensor has the dimensions 0 (batch), 1 (heads), 2 (rows) and 3 (channels)."),
    };

    /// <summary>The shape with one size replaced.</summary>
    internal TensorShape With(int dimension, int size) => dimension switch
    {
        0 => this with { Batch = size },
        1 => this with { Heads = size },
        2 => this with { Rows = size },
        _ => this with { Channels = size },
    };

    /// <summary>Writes the sizes as "[1, 6, 2048, 64]".</summary>
    /// <returns>The text.</returns>
    public override string ToString() => $"[{Batch}, {Heads}, {Rows}, {Channels}]";
}
