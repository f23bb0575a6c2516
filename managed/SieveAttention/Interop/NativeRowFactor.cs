namespace SieveAttention.Interop;

/// <summary>
/// A <see cref="RowFactor"/> as the native library takes it. Values of each head lie in device memory, put there once: calls do not
/// upload anything. A constant g is 1 + (g - 1) ln(position + 2)^0. The memory is given back when the object is no longer used.
/// </summary>
internal sealed class NativeRowFactor
{
    private readonly double _first;
    private readonly double _second;
    private readonly AttentionTensor? _firstOfHeads;
    private readonly AttentionTensor? _secondOfHeads;

    private NativeRowFactor(CudaDevice device, SieveRowFactor kind, IReadOnlyList<double> first, IReadOnlyList<double> second)
    {
        Kind = kind;
        _first = first.Count == 1 ? first[0] : 0;
        _second = second.Count == 1 ? second[0] : 0;
        _firstOfHeads = OfHeads(device, first);
        _secondOfHeads = OfHeads(device, second);
    }

    internal SieveRowFactor Kind { get; }

    internal static NativeRowFactor Of(CudaDevice device, RowFactor factor) => factor.Kind switch
    {
        RowFactorKind.Constant =>
            new NativeRowFactor(device, SieveRowFactor.Asentmax, [.. factor.Values.Select(g => g - 1)], [0]),
        RowFactorKind.Ssmax => new NativeRowFactor(device, SieveRowFactor.Ssmax, factor.Values, []),
        RowFactorKind.Asentmax => new NativeRowFactor(device, SieveRowFactor.Asentmax, factor.Values, factor.Exponents),
        RowFactorKind.PerRow => new NativeRowFactor(device, SieveRowFactor.Vector, [], []),
        _ => new NativeRowFactor(device, SieveRowFactor.None, [], []),
    };

    internal SieveScalar First(ref TensorLeases leases) => Scalar(_firstOfHeads, _first, ref leases);

    internal SieveScalar Second(ref TensorLeases leases) => Scalar(_secondOfHeads, _second, ref leases);

    private static SieveScalar Scalar(AttentionTensor? heads, double value, ref TensorLeases leases) => heads is null
        ? NativeProblem.Scalar(value)
        : new SieveScalar { device = leases.AddPointer(heads), head_stride = 1 };

    private static AttentionTensor? OfHeads(CudaDevice device, IReadOnlyList<double> values)
    {
        if (values.Count < 2)
        {
            return null;
        }

        float[] rounded = [.. values.Select(value => (float)value)];
        return device.Upload(rounded, new TensorShape(1, rounded.Length, 1, 1));
    }
}
