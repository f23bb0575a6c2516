namespace SieveAttention;

/// <summary>
/// Tensors of one decode step of the operators with one view of queries and keys: B = decoded sequences, Hq = query heads, T = new rows of
/// each sequence, D = head_dim, Dv = channels of values. Each has any floating-point type and any strides. Does not own the tensors.
/// </summary>
public sealed record DecodeInputs
{
    /// <summary>Queries of the new rows, [B, Hq, T, D]; row i of a sequence of n keys stands at position n - T + i.</summary>
    public required AttentionTensor Query { get; init; }

    /// <summary>The sequence of the cache that each entry of the batch continues; all of them in their order when absent.</summary>
    public IReadOnlyList<int>? Sequences { get; init; }

    /// <summary>Factors of the rows' scores, [B, Hq, T, 1]; exactly with <see cref="RowFactorKind.PerRow"/>.</summary>
    public AttentionTensor? RowFactors { get; init; }

    /// <summary>Gain of the RMSNorm, [1, 1, 1, Dv]; only with <see cref="OutputNorm.Rms"/>; ones when absent.</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Logits of the output gate, [B, Hq, T, 1]; absent = no gate.</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Checks everything against the cache and the options that operators share.</summary>
    internal Decoding.DecodePlan Plan(
        AttentionDevice device, KeyValueCache cache, AttentionMask mask, ScoreOptions scores, OutputEpilogue epilogue)
    {
        Decoding.DecodePlan plan = Decoding.DecodePlan.Build(device, cache, 1, mask, Query, nameof(Query), Sequences);
        ProblemBuilder.CheckScores(device, plan.Sizes, scores, RowFactors);
        ProblemBuilder.CheckEpilogue(device, plan.Sizes, epilogue, NormGain, Gate);
        return plan;
    }
}
