namespace SieveAttention.Tests.Support;

/// <summary>Random and converted values.</summary>
internal static class Values
{
    /// <summary>Standard normal deviates.</summary>
    public static double[] Normal(Random random, long count)
    {
        double[] values = new double[count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
        }

        return values;
    }

    public static HostArray<double> NormalArray(Random random, TensorShape shape)
    {
        HostArray<double> array = new(shape);
        Normal(random, shape.Count).CopyTo(array.Data, 0);
        return array;
    }

    /// <summary>A dense host tensor of a type, with the values rounded to it.</summary>
    public static AttentionTensor Tensor(ReadOnlySpan<double> values, TensorShape shape, TensorType type = TensorType.Float64)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape);
        HostArray<double> array = new(shape);
        values.CopyTo(array.Data);
        array.WriteTo(tensor);
        return tensor;
    }

    public static AttentionTensor Tensor(HostArray<double> array, TensorType type = TensorType.Float64) =>
        Tensor(array.Data, array.Shape, type);

    /// <summary>The elements of a host tensor of any floating-point type, row-major.</summary>
    public static double[] Doubles(AttentionTensor tensor) => HostArray<double>.Read(tensor).Data;

    /// <summary>The value after one rounding to a type.</summary>
    public static double Round(double value, TensorType type) => type switch
    {
        TensorType.Float64 => value,
        TensorType.Float32 => (float)value,
        TensorType.Float16 => (double)(Half)value,
        TensorType.BFloat16 => (float)(BFloat16)value,
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };
}
