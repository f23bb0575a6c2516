namespace SieveAttention;

/// <summary>
/// Tensors that <see cref="ThresholdDifferentialAttention"/> reads. B = batch, Hq = query heads, Hkv = key heads (Hq is a multiple),
/// Tq = query rows, Tk = key rows, D = head_dim, Dv = channels of values. The record does not own the tensors.
/// </summary>
/// <remarks>
/// On host devices each tensor has any floating-point type. On a CUDA device queries, keys and values are Float16 or BFloat16,
/// all of the same type, and gain and gate are Float32. Strides are free; 16-bit tensors on a CUDA device need dense channels
/// and rows aligned to 16 bytes.
/// </remarks>
public sealed record ThresholdDifferentialInputs
{
    /// <summary>First query view, [B, Hq, Tq, D].</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>First key view, [B, Hkv, Tk, D].</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Values, [B, Hkv, Tk, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Second query view, [B, Hq, Tq, D]; may be absent only where lambda is 0.</summary>
    public AttentionTensor? Query2 { get; init; }

    /// <summary>Second key view, [B, Hkv, Tk, D]; absent exactly where <see cref="Query2"/> is.</summary>
    public AttentionTensor? Key2 { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, Tq, 1]: the output is multiplied by their sigmoid; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }
}
