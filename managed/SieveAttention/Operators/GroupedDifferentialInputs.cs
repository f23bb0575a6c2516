namespace SieveAttention;

/// <summary>
/// Tensors that <see cref="GroupedDifferentialAttention"/> reads. B = batch, Hq = query heads, r = signals of a group, G = Hq / (r + 1)
/// groups, Ho = G r output heads, Hkv = key heads (Hq is a multiple), Tq = query rows, Tk = key rows, D = head_dim, Dv = channels of
/// values. Each tensor has any floating-point type and any strides. The record does not own the tensors.
/// </summary>
public sealed record GroupedDifferentialInputs
{
    /// <summary>Queries, [B, Hq, Tq, D]: of each group first the r signal heads, then the noise head.</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>Keys, [B, Hkv, Tk, D].</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Values, [B, Hkv, Tk, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Logits of lambda, [B, Ho, Tq, 1]: lambda is their sigmoid, one a row and signal head.</summary>
    public required AttentionTensor LambdaLogit { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Ho, Tq, 1]: the output is multiplied by their sigmoid; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }
}
