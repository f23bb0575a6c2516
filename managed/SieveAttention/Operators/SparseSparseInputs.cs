namespace SieveAttention;

/// <summary>
/// Tensors that <see cref="SparseSparseAttention"/> reads. B = batch, Hq = query heads, Hkv = key heads (Hq is a multiple), Tq = query
/// rows, Tk = key rows, D = head_dim, Dv = channels of values. Any floating-point type and any strides; the record does not own them.
/// </summary>
public sealed record SparseSparseInputs
{
    /// <summary>Queries, [B, Hq, Tq, D], rotary positions applied.</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>Keys, [B, Hkv, Tk, D], rotary positions applied.</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Values, [B, Hkv, Tk, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, Tq, 1]: outputs are multiplied by their sigmoid; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>
    /// The caller's own selection instead of that by importance, Int32 [B, Hkv, Tq, block_count]: each row has blocks that it sees, each
    /// once, in any order, and -1 in slots that it does not use. A row may have none: its sparse output is 0. The indices of an earlier
    /// result save Backward the selection.
    /// </summary>
    public AttentionTensor? BlockIndices { get; init; }
}
