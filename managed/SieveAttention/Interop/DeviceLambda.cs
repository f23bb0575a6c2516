namespace SieveAttention.Interop;

/// <summary>Lambda of differential attention as the native library takes it: by value, or one a head in device memory.</summary>
internal sealed class DeviceLambda
{
    private readonly double _value;
    private readonly AttentionTensor? _heads;

    private DeviceLambda(double value, AttentionTensor? heads)
    {
        _value = value;
        _heads = heads;
    }

    /// <summary>One value for all heads.</summary>
    internal static DeviceLambda Of(double value) => new(value, heads: null);

    /// <summary>One value a head, put into device memory once; the memory is given back when the object is no longer used.</summary>
    internal static DeviceLambda Of(CudaDevice device, IReadOnlyList<double> values)
    {
        float[] rounded = [.. values.Select(value => (float)value)];
        return new DeviceLambda(0, device.Upload(rounded, new TensorShape(1, rounded.Length, 1, 1)));
    }

    internal SieveScalar Scalar(ref TensorLeases leases) => _heads is null
        ? NativeProblem.Scalar(_value)
        : new SieveScalar { device = leases.AddPointer(_heads), head_stride = 1 };
}
