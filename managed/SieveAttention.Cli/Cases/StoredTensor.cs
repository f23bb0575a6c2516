using System.Runtime.InteropServices;

namespace SieveAttention.Cli.Cases;

/// <summary>A tensor of a file: name, type, shape of any rank, and row-major values.</summary>
internal sealed class StoredTensor
{
    /// <summary>Makes a tensor over existing values (not copied): one of double[], float[], Half[], BFloat16[], int[].</summary>
    public StoredTensor(string name, IReadOnlyList<int> shape, Array values)
    {
        Name = name;
        Shape = shape;
        Values = values;
        Type = TypeOf(values);
        if (values.Length != shape.Aggregate(1L, (count, size) => count * size))
        {
            throw new ArgumentException($"values: found {values.Length} values; allowed: as many as shape {Text.Shape(shape)} has");
        }
    }

    /// <summary>Name in the file.</summary>
    public string Name { get; }

    /// <summary>Element type.</summary>
    public TensorType Type { get; }

    /// <summary>Sizes, slowest first.</summary>
    public IReadOnlyList<int> Shape { get; }

    /// <summary>The values as an array of the element type.</summary>
    public Array Values { get; }

    /// <summary>Number of elements.</summary>
    public int Count => Values.Length;

    /// <summary>An empty array of a type.</summary>
    public static Array AllocateValues(TensorType type, int count) => type switch
    {
        TensorType.Float64 => new double[count],
        TensorType.Float32 => new float[count],
        TensorType.Float16 => new Half[count],
        TensorType.BFloat16 => new BFloat16[count],
        TensorType.Int32 => new int[count],
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "allowed: the types of a case file"),
    };

    /// <summary>The values as doubles: exact for every type; the own array where the type is F64.</summary>
    public double[] ToDoubles() => Values switch
    {
        double[] values => values,
        float[] values => Array.ConvertAll(values, value => (double)value),
        Half[] values => Array.ConvertAll(values, value => (double)value),
        BFloat16[] values => Array.ConvertAll(values, value => (double)(float)value),
        int[] values => Array.ConvertAll(values, value => (double)value),
        _ => throw new InvalidOperationException(),
    };

    /// <summary>The raw bytes of a range of elements, little-endian as in the file.</summary>
    public Span<byte> Bytes(int first, int count) => Values switch
    {
        double[] values => MemoryMarshal.AsBytes(values.AsSpan(first, count)),
        float[] values => MemoryMarshal.AsBytes(values.AsSpan(first, count)),
        Half[] values => MemoryMarshal.AsBytes(values.AsSpan(first, count)),
        BFloat16[] values => MemoryMarshal.AsBytes(values.AsSpan(first, count)),
        int[] values => MemoryMarshal.AsBytes(values.AsSpan(first, count)),
        _ => throw new InvalidOperationException(),
    };

    /// <summary>The same values as a tensor for an operator, in a shape with as many elements.</summary>
    public AttentionTensor ToAttentionTensor(TensorShape shape) => Values switch
    {
        double[] values => AttentionTensor.From<double>(values, shape),
        float[] values => AttentionTensor.From<float>(values, shape),
        Half[] values => AttentionTensor.From<Half>(values, shape),
        BFloat16[] values => AttentionTensor.From<BFloat16>(values, shape),
        int[] values => AttentionTensor.From<int>(values, shape),
        _ => throw new InvalidOperationException(),
    };

    private static TensorType TypeOf(Array values) => values switch
    {
        double[] => TensorType.Float64,
        float[] => TensorType.Float32,
        Half[] => TensorType.Float16,
        BFloat16[] => TensorType.BFloat16,
        int[] => TensorType.Int32,
        _ => throw new ArgumentException($"values: found {values.GetType().Name}; allowed: the types of a case file"),
    };
}
