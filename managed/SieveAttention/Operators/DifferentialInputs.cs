namespace SieveAttention;

/// <summary>
/// Tensors that <see cref="DifferentialAttention"/> reads. B = batch, Hq = query heads, Hkv = key heads (Hq is a multiple), Tq = query
/// rows, Tk = key rows, D = head_dim of one view, Dv = channels of values (2 D in the published models). Each tensor has any floating-point
/// type and any strides. The record does not own the tensors.
/// </summary>
/// <remarks>
/// Both layouts of the published models are views of one tensor with 2 H heads: interleaved as 2 h + view, tensors that begin at the view
/// and have twice the stride of a head; as halves of the heads, two slices. Where several signal heads share one noise head (arXiv
/// 2510.06949), its queries are repeated.
/// </remarks>
public sealed record DifferentialInputs
{
    /// <summary>First query view, [B, Hq, Tq, D].</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>First key view, [B, Hkv, Tk, D].</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Second query view, [B, Hq, Tq, D].</summary>
    public required AttentionTensor Query2 { get; init; }

    /// <summary>Second key view, [B, Hkv, Tk, D].</summary>
    public required AttentionTensor Key2 { get; init; }

    /// <summary>Values, [B, Hkv, Tk, Dv], shared by both views.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>
    /// The vectors q1, k1, q2, k2 of lambda = exp(q1 . k1) - exp(q2 . k2) + lambda_init, [1, 1, 4, D], in host memory on any
    /// device; absent where lambda is given finished. Their gradient is in host memory too.
    /// </summary>
    public AttentionTensor? LambdaVectors { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, Tq, 1]: the output is multiplied by their sigmoid; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }
}
