namespace SieveAttention;

/// <summary>
/// Gradients of operators with one view of queries and keys: each tensor has the shape of its input and is absent where that is.
/// Owns its tensors, which are in host memory: Float64 from the Reference device, Float32 from the Cpu device. Thread-safe to read.
/// </summary>
public class AttentionGradients : IDisposable
{
    internal AttentionGradients(GradientTensors tensors)
    {
        Query = tensors.Query;
        Key = tensors.Key;
        Value = tensors.Value;
        RowFactor = tensors.RowFactor;
        NormGain = tensors.NormGain;
        Gate = tensors.Gate;
    }

    /// <summary>Gradient of the queries.</summary>
    public AttentionTensor Query { get; }

    /// <summary>Gradient of the keys.</summary>
    public AttentionTensor Key { get; }

    /// <summary>Gradient of the values.</summary>
    public AttentionTensor Value { get; }

    /// <summary>Gradients of the row factor's parameters, or of the caller's own factors; null without a row factor.</summary>
    public RowFactorGradients? RowFactor { get; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query.Dispose();
        Key.Dispose();
        Value.Dispose();
        RowFactor?.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
        GC.SuppressFinalize(this);
    }
}

/// <summary>What <see cref="AttentionGradients"/> is made of.</summary>
internal sealed record GradientTensors(
    AttentionTensor Query,
    AttentionTensor Key,
    AttentionTensor Value,
    RowFactorGradients? RowFactor,
    AttentionTensor? NormGain,
    AttentionTensor? Gate);
