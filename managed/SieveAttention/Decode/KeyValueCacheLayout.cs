namespace SieveAttention;

/// <summary>What a <see cref="KeyValueCache"/> holds for each key of each sequence. Immutable.</summary>
/// <param name="Sequences">Number of sequences, at least 1.</param>
/// <param name="KeyHeads">Heads of keys and values, at least 1.</param>
/// <param name="HeadDim">Channels of a key, at least 1.</param>
/// <param name="ValueDim">Channels of a value, at least 1.</param>
public sealed record KeyValueCacheLayout(int Sequences, int KeyHeads, int HeadDim, int ValueDim)
{
    /// <summary>Key views: 2 for operators with two of them (threshold differential, differential), else 1.</summary>
    public int Views { get; init; } = 1;

    /// <summary>Type in which keys and values are kept, a floating-point type; appended ones are rounded to it once.</summary>
    public TensorType Type { get; init; } = TensorType.Float32;

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Between(1, int.MaxValue, Sequences, nameof(Sequences));
        Guard.Between(1, int.MaxValue, KeyHeads, nameof(KeyHeads));
        Guard.Between(1, int.MaxValue, HeadDim, nameof(HeadDim));
        Guard.Between(1, int.MaxValue, ValueDim, nameof(ValueDim));
        Guard.Between(1, 2, Views, nameof(Views));
        Guard.Defined(Type, nameof(Type));
        if (!TensorTypes.IsFloat(Type))
        {
            throw Guard.OutOfRange(nameof(Type), Type, "Float64, Float32, Float16, BFloat16");
        }
    }
}
