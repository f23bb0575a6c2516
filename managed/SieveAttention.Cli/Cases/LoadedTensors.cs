namespace SieveAttention.Cli.Cases;

/// <summary>Inputs of a case on a device, loaded when they are asked for and disposed together.</summary>
internal sealed class LoadedTensors(CaseInputs inputs, AttentionDevice device) : IDisposable
{
    private readonly Dictionary<string, AttentionTensor> _tensors = new(StringComparer.Ordinal);

    /// <summary>A tensor that the case has.</summary>
    public AttentionTensor this[string name]
    {
        get
        {
            if (!_tensors.TryGetValue(name, out AttentionTensor? tensor))
            {
                tensor = inputs.Load(name, device);
                _tensors.Add(name, tensor);
            }
            return tensor;
        }
    }

    /// <summary>A tensor, or null where the case does not have it.</summary>
    public AttentionTensor? Optional(string name) => inputs.Has(name) ? this[name] : null;

    /// <summary>Disposes all that was loaded.</summary>
    public void Dispose()
    {
        foreach (AttentionTensor tensor in _tensors.Values)
        {
            tensor.Dispose();
        }
    }
}
