namespace SieveAttention.Tests.Support;

/// <summary>Inputs copied to a CUDA device and disposed together; optionally in sequence-first memory.</summary>
internal sealed class DeviceInputs : IDisposable
{
    private readonly List<AttentionTensor> _owned = [];

    public DeviceInputs(ThresholdDifferentialInputs host, CudaDevice device, bool sequenceFirst = false)
    {
        Tensors = new ThresholdDifferentialInputs
        {
            Query1 = Upload(host.Query1, device, sequenceFirst)!,
            Key1 = Upload(host.Key1, device, sequenceFirst)!,
            Value = Upload(host.Value, device, sequenceFirst)!,
            Query2 = Upload(host.Query2, device, sequenceFirst),
            Key2 = Upload(host.Key2, device, sequenceFirst),
            NormGain = Upload(host.NormGain, device, sequenceFirst: false),
            Gate = Upload(host.Gate, device, sequenceFirst),
        };
    }

    public ThresholdDifferentialInputs Tensors { get; }

    public void Dispose() => _owned.ForEach(tensor => tensor.Dispose());

    private AttentionTensor? Upload(AttentionTensor? host, CudaDevice device, bool sequenceFirst)
    {
        if (host is null)
        {
            return null;
        }

        if (!sequenceFirst)
        {
            return Own(host.To(device));
        }

        using AttentionTensor permuted = host.Permute(0, 2, 1, 3);
        return Own(Own(permuted.To(device)).Permute(0, 2, 1, 3));
    }

    private AttentionTensor Own(AttentionTensor tensor)
    {
        _owned.Add(tensor);
        return tensor;
    }
}
