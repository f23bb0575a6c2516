namespace SieveAttention;

/// <summary>
/// Tensors that operators with one view of queries and keys read: softmax, entmax, support-basis and row-function attention. B = batch,
/// Hq = query heads, Hkv = key heads (Hq is a multiple), Tq = query rows, Tk = key rows, D = head_dim, Dv = channels of values. Each
/// tensor has any floating-point type and any strides. The record does not own the tensors.
/// </summary>
public sealed record AttentionInputs
{
    /// <summary>Queries, [B, Hq, Tq, D].</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>Keys, [B, Hkv, Tk, D].</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Values, [B, Hkv, Tk, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Factors of the rows' scores, [B, Hq, Tq, 1]; exactly with <see cref="RowFactorKind.PerRow"/>.</summary>
    public AttentionTensor? RowFactors { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, Tq, 1]: the output is multiplied by their sigmoid; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>
    /// Valid keys of each batch entry, Int32 [1, 1, 1, B] in device memory, each at most Tk; all when absent. CUDA devices only, not
    /// with packed sequences. Read when the kernels run: the numbers may change between replays of a captured graph.
    /// </summary>
    public AttentionTensor? KeyLengths { get; init; }
}
