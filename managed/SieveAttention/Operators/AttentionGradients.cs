namespace SieveAttention;

/// <summary>
/// Gradients of operators with one view of queries and keys: each tensor has the shape of its input and is absent where that is.
/// Owns its tensors, which are in host memory, Float64 from the Reference device and Float32 from the Cpu device, or in the memory of a
/// CUDA device. Thread-safe to read.
/// </summary>
public class AttentionGradients : IDisposable
{
    /// <summary>Takes over tensors for a CUDA device to write to.</summary>
    /// <param name="query">Like the queries: their type or Float32.</param>
    /// <param name="key">Like the keys: their type or Float32.</param>
    /// <param name="value">Like the values: their type or Float32.</param>
    /// <param name="gate">Float32 [B, Hq, Tq, 1]; where it is wanted and there is a gate.</param>
    /// <param name="rowFactor">Where it is wanted and there is a row factor.</param>
    public AttentionGradients(
        AttentionTensor query, AttentionTensor key, AttentionTensor value, AttentionTensor? gate = null, RowFactorGradients? rowFactor = null)
        : this(new GradientTensors(query, key, value, rowFactor, NormGain: null, gate))
    {
        ArgumentNullException.ThrowIfNull(query);
        ArgumentNullException.ThrowIfNull(key);
        ArgumentNullException.ThrowIfNull(value);
    }

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
