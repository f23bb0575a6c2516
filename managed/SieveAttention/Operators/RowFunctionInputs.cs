namespace SieveAttention;

/// <summary>Tensors that <see cref="RowFunctionAttention"/> reads. The record does not own the tensors.</summary>
public sealed record RowFunctionInputs
{
    /// <summary>Queries, keys, values and what operators with one view share.</summary>
    public required AttentionInputs Attention { get; init; }

    /// <summary>a of <see cref="AffineWeights"/>, [B, Hq, Tq, 1]: required there, absent elsewhere.</summary>
    public AttentionTensor? AffineFactor { get; init; }

    /// <summary>b of <see cref="AffineWeights"/>, [B, Hq, Tq, 1]; 0 when absent, absent elsewhere.</summary>
    public AttentionTensor? AffineShift { get; init; }
}
