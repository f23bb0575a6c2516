namespace SieveAttention;

/// <summary>Elements (not bytes) from one index to the next, of each dimension of a tensor.</summary>
/// <param name="Batch">From one entry of the batch to the next.</param>
/// <param name="Heads">From one head to the next.</param>
/// <param name="Rows">From one row to the next.</param>
/// <param name="Channels">From one channel to the next; 1 where rows are dense.</param>
public readonly record struct TensorStrides(long Batch, long Heads, long Rows, long Channels)
{
    /// <summary>Strides of a dense tensor of that shape, channels fastest.</summary>
    /// <param name="shape">The shape.</param>
    /// <returns>The strides.</returns>
    public static TensorStrides Contiguous(TensorShape shape)
    {
        long row = shape.Channels;
        long head = checked(row * shape.Rows);
        return new TensorStrides(checked(head * shape.Heads), head, row, 1);
    }

    /// <summary>Stride of a dimension, 0 = batch to 3 = channels.</summary>
    internal long this[int dimension] => dimension switch
    {
        0 => Batch,
        1 => Heads,
        2 => Rows,
        _ => Channels,
    };

    /// <summary>Distance in elements of an element from the first.</summary>
    internal long Offset(int batch, int head, int row, int channel = 0) =>
        (batch * Batch) + (head * Heads) + (row * Rows) + (channel * Channels);

    /// <summary>Elements from the first to the last, both included.</summary>
    internal long Extent(TensorShape shape) => checked(
        ((shape.Batch - 1) * Batch) + ((shape.Heads - 1) * Heads) + ((shape.Rows - 1) * Rows) + ((shape.Channels - 1) * Channels) + 1);

    /// <summary>Whether the elements of that shape lie densely in row-major order; strides of single indices do not matter.</summary>
    internal bool IsContiguous(TensorShape shape)
    {
        TensorStrides dense = Contiguous(shape);
        return (shape.Batch == 1 || Batch == dense.Batch) && (shape.Heads == 1 || Heads == dense.Heads)
            && (shape.Rows == 1 || Rows == dense.Rows) && (shape.Channels == 1 || Channels == dense.Channels);
    }

    /// <summary>
    /// Whether two indices may mean the same element, so that the tensor cannot be written. Exact for nested strides; layouts
    /// that interleave dimensions without nesting count as overlapping.
    /// </summary>
    internal bool Overlaps(TensorShape shape)
    {
        Span<(long Stride, int Size)> dimensions =
            [(Batch, shape.Batch), (Heads, shape.Heads), (Rows, shape.Rows), (Channels, shape.Channels)];
        dimensions.Sort();
        long reached = 0;
        foreach ((long stride, int size) in dimensions)
        {
            if (size == 1)
            {
                continue;
            }

            if (stride <= reached)
            {
                return true;
            }

            reached += (size - 1) * stride;
        }

        return false;
    }

    /// <summary>Writes the strides as "[786432, 131072, 64, 1]".</summary>
    /// <returns>The text.</returns>
    public override string ToString() => $"[{Batch}, {Heads}, {Rows}, {Channels}]";
}
