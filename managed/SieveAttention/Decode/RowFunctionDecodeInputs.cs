namespace SieveAttention;

/// <summary>Tensors of one decode step of <see cref="RowFunctionAttention"/>. Does not own the tensors.</summary>
public sealed record RowFunctionDecodeInputs
{
    /// <summary>Queries and what operators with one view share.</summary>
    public required DecodeInputs Attention { get; init; }

    /// <summary>a of <see cref="AffineWeights"/>, [B, Hq, T, 1]: required there, absent elsewhere.</summary>
    public AttentionTensor? AffineFactor { get; init; }

    /// <summary>b of <see cref="AffineWeights"/>, [B, Hq, T, 1]; 0 when absent, absent elsewhere.</summary>
    public AttentionTensor? AffineShift { get; init; }

    /// <summary>Learned bias of <see cref="ElasticSoftmaxWeights"/>, as <see cref="RowFunctionInputs.DistanceBias"/>.</summary>
    public AttentionTensor? DistanceBias { get; init; }

    /// <summary>The tensors that some weights have and others have not.</summary>
    internal RowFunctionExtras Extras => new(AffineFactor, AffineShift, DistanceBias);
}
