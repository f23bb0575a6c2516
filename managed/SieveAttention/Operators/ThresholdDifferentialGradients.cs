namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="ThresholdDifferentialAttention"/>: each tensor has the shape of its input and is absent where that
/// is. Owns its tensors. Thread-safe to read.
/// </summary>
public sealed class ThresholdDifferentialGradients : IDisposable
{
    internal ThresholdDifferentialGradients()
    {
    }

    /// <summary>Gradient of the first query view.</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>Gradient of the first key view.</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Gradient of the second query view.</summary>
    public AttentionTensor? Query2 { get; init; }

    /// <summary>Gradient of the second key view.</summary>
    public AttentionTensor? Key2 { get; init; }

    /// <summary>Gradient of the values.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Gradient of beta, summed over heads.</summary>
    public required double Beta { get; init; }

    /// <summary>Gradient of kappa.</summary>
    public required double Kappa { get; init; }

    /// <summary>Gradient of lambda, summed over heads; 0 without a second view.</summary>
    public required double Lambda { get; init; }

    /// <summary>Gradient of beta of each query head; their sum is <see cref="Beta"/>.</summary>
    public required IReadOnlyList<double> HeadBeta { get; init; }

    /// <summary>Gradient of lambda of each query head; their sum is <see cref="Lambda"/>.</summary>
    public required IReadOnlyList<double> HeadLambda { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query1.Dispose();
        Key1.Dispose();
        Query2?.Dispose();
        Key2?.Dispose();
        Value.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
    }
}
