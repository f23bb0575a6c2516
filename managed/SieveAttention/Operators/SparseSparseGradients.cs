namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="SparseSparseAttention"/>: each tensor has the shape of its input and is absent where that is. The selection has
/// none. Owns its tensors. Thread-safe to read.
/// </summary>
public sealed class SparseSparseGradients : IDisposable
{
    internal SparseSparseGradients()
    {
    }

    /// <summary>Gradient of the queries.</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>Gradient of the keys.</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Gradient of the values.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query.Dispose();
        Key.Dispose();
        Value.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
    }
}
