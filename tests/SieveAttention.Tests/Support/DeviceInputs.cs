namespace SieveAttention.Tests.Support;

/// <summary>Host tensors copied to a CUDA device and disposed together; optionally in sequence-first memory.</summary>
internal sealed class DeviceCopies(CudaDevice device, bool sequenceFirst = false) : IDisposable
{
    private readonly List<AttentionTensor> _owned = [];

    public AttentionTensor Of(AttentionTensor host)
    {
        if (!sequenceFirst)
        {
            return Own(host.To(device));
        }

        using AttentionTensor permuted = host.Permute(0, 2, 1, 3);
        return Own(Own(permuted.To(device)).Permute(0, 2, 1, 3));
    }

    public AttentionTensor? OfOptional(AttentionTensor? host) => host is null ? null : Of(host);

    /// <summary>A tensor that is the same in either order, such as a gain.</summary>
    public AttentionTensor? Dense(AttentionTensor? host) => host is null ? null : Own(host.To(device));

    public AttentionInputs Of(AttentionInputs host) => host with
    {
        Query = Of(host.Query),
        Key = Of(host.Key),
        Value = Of(host.Value),
        NormGain = Dense(host.NormGain),
        Gate = OfOptional(host.Gate),
        RowFactors = OfOptional(host.RowFactors),
        KeyLengths = Dense(host.KeyLengths),
    };

    public void Dispose() => _owned.ForEach(tensor => tensor.Dispose());

    private AttentionTensor Own(AttentionTensor tensor)
    {
        _owned.Add(tensor);
        return tensor;
    }
}

/// <summary>Inputs of threshold differential attention on a CUDA device.</summary>
internal sealed class DeviceInputs : IDisposable
{
    private readonly DeviceCopies _copies;

    public DeviceInputs(ThresholdDifferentialInputs host, CudaDevice device, bool sequenceFirst = false)
    {
        _copies = new DeviceCopies(device, sequenceFirst);
        Tensors = new ThresholdDifferentialInputs
        {
            Query1 = _copies.Of(host.Query1),
            Key1 = _copies.Of(host.Key1),
            Value = _copies.Of(host.Value),
            Query2 = _copies.OfOptional(host.Query2),
            Key2 = _copies.OfOptional(host.Key2),
            NormGain = _copies.Dense(host.NormGain),
            Gate = _copies.OfOptional(host.Gate),
        };
    }

    public ThresholdDifferentialInputs Tensors { get; }

    public void Dispose() => _copies.Dispose();
}
