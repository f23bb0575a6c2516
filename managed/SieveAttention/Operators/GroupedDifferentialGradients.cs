namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="GroupedDifferentialAttention"/>: each tensor has the shape of its input and is absent where that is. Owns its
/// tensors. Thread-safe to read.
/// </summary>
public sealed class GroupedDifferentialGradients : IDisposable
{
    internal GroupedDifferentialGradients()
    {
    }

    /// <summary>Gradient of the queries, signal and noise heads.</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>Gradient of the keys.</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Gradient of the values.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Gradient of the lambda logits, [B, Ho, Tq, 1].</summary>
    public required AttentionTensor LambdaLogit { get; init; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Gradient of the gate's logits, [B, Ho, Tq, 1].</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query.Dispose();
        Key.Dispose();
        Value.Dispose();
        LambdaLogit.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
    }
}
