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

    /// <summary>
    /// Learned bias b of <see cref="ElasticSoftmaxWeights"/>, [1, Hq, 1, R]: added to the score of a query and a key at the distance
    /// d = i + offset - j, 0 &lt;= d &lt; R; 0 at other distances. The paper has R = 512. No bias when absent, absent elsewhere.
    /// </summary>
    public AttentionTensor? DistanceBias { get; init; }

    /// <summary>The tensors that some weights have and others have not.</summary>
    internal RowFunctionExtras Extras => new(AffineFactor, AffineShift, DistanceBias);
}

/// <summary>The tensors of single row functions, the same for a whole problem and a decode step.</summary>
internal sealed record RowFunctionExtras(AttentionTensor? AffineFactor, AttentionTensor? AffineShift, AttentionTensor? DistanceBias)
{
    /// <summary>Checks that those that the weights need are there, no others, and their shapes.</summary>
    internal void Check(AttentionDevice device, in AttentionProblem problem, RowWeights weights)
    {
        bool affine = weights is AffineWeights;
        Allow(AffineFactor, nameof(AffineFactor), affine, weights, nameof(AffineWeights));
        Allow(AffineShift, nameof(AffineShift), affine, weights, nameof(AffineWeights));
        Allow(DistanceBias, nameof(DistanceBias), weights is ElasticSoftmaxWeights, weights, nameof(ElasticSoftmaxWeights));
        if (affine && AffineFactor is null)
        {
            throw Guard.Tensor(
                nameof(AffineFactor),
                "AffineFactor is absent and Weights are AffineWeights; allowed: a tensor [batch, query heads, queries, 1].");
        }

        if (AffineFactor is not null)
        {
            ProblemBuilder.CheckRowInput(device, problem, AffineFactor, nameof(AffineFactor));
        }

        if (AffineShift is not null)
        {
            ProblemBuilder.CheckRowInput(device, problem, AffineShift, nameof(AffineShift));
        }

        if (DistanceBias is not null)
        {
            TensorGuard.Input(DistanceBias, nameof(DistanceBias), device);
            TensorShape shape = DistanceBias.Shape with { Batch = 1, Heads = problem.QueryHeads, Rows = 1 };
            TensorGuard.Shape(DistanceBias, nameof(DistanceBias), shape, "[1, query heads, 1, distances]");
        }
    }

    /// <summary>The same numbers in memory of their own.</summary>
    internal RowFunctionExtras Copy()
    {
        return new RowFunctionExtras(Of(AffineFactor), Of(AffineShift), Of(DistanceBias));

        static AttentionTensor? Of(AttentionTensor? tensor) => HostTensors.WrapOptional(HostTensors.ReadOptional<double>(tensor));
    }

    private static void Allow(AttentionTensor? tensor, string name, bool isAllowed, RowWeights weights, string with)
    {
        if (tensor is not null && !isAllowed)
        {
            throw Guard.Tensor(name, $"{name} is given and Weights are {weights.GetType().Name}; allowed: with {with} only.");
        }
    }
}
