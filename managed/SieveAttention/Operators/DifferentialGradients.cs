namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="DifferentialAttention"/>: each tensor has the shape of its input and is absent where that is. Owns its tensors.
/// Thread-safe to read.
/// </summary>
public sealed class DifferentialGradients : IDisposable
{
    internal DifferentialGradients()
    {
    }

    /// <summary>Gradient of the first query view.</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>Gradient of the first key view.</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Gradient of the second query view.</summary>
    public required AttentionTensor Query2 { get; init; }

    /// <summary>Gradient of the second key view.</summary>
    public required AttentionTensor Key2 { get; init; }

    /// <summary>Gradient of the values.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>
    /// Gradient of lambda: one number where lambda was one (also where it came from vectors), else one a query head.
    /// </summary>
    public required IReadOnlyList<double> Lambda { get; init; }

    /// <summary>Gradient of the lambda vectors, [1, 1, 4, D].</summary>
    public AttentionTensor? LambdaVectors { get; init; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query1.Dispose();
        Key1.Dispose();
        Query2.Dispose();
        Key2.Dispose();
        Value.Dispose();
        LambdaVectors?.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
    }
}
