namespace SieveAttention;

/// <summary>
/// Tensors of one decode step of <see cref="DifferentialAttention"/>: B = decoded sequences, Hq = query heads, T = new rows of each
/// sequence, D = head_dim, Dv = channels of values. Each has any floating-point type and any strides. Does not own the tensors.
/// </summary>
public sealed record DifferentialDecodeInputs
{
    /// <summary>First query view of the new rows, [B, Hq, T, D]; row i of a sequence of n keys stands at position n - T + i.</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>Second query view, [B, Hq, T, D].</summary>
    public required AttentionTensor Query2 { get; init; }

    /// <summary>The sequence of the cache that each entry of the batch continues; all of them in their order when absent.</summary>
    public IReadOnlyList<int>? Sequences { get; init; }

    /// <summary>The vectors that lambda is made of, as in <see cref="DifferentialInputs.LambdaVectors"/>.</summary>
    public AttentionTensor? LambdaVectors { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, T, 1]; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }
}
