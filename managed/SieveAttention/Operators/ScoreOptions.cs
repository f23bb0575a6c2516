using System.Numerics;

namespace SieveAttention;

/// <summary>
/// How queries and keys become scores, the same for every operator that takes it:
/// <code>s_ij = scale g_i (q_i . k_j) - slope_h (i + query offset - j)</code>
/// with the row factor g_i of <see cref="RowFactor"/> and the ALiBi slope of query head h (arXiv 2108.12409). NAPE (arXiv 2506.16640)
/// is slopes on half of the heads and 0 on the others. Immutable.
/// </summary>
public sealed record ScoreOptions
{
    /// <summary>Factor of the products, finite; 1 / sqrt(head_dim) when absent.</summary>
    public double? Scale { get; init; }

    /// <summary>Factor of each row's products.</summary>
    public RowFactor RowFactor { get; init; } = RowFactor.None;

    /// <summary>Linear penalty of the distance, one finite slope for each query head; none when absent.</summary>
    public IReadOnlyList<double>? AlibiSlopes { get; init; }

    /// <summary>Checks what can be checked without tensors.</summary>
    internal void Validate()
    {
        if (Scale is { } scale)
        {
            Guard.Finite(scale, nameof(Scale));
        }

        ArgumentNullException.ThrowIfNull(RowFactor);
        foreach (double slope in AlibiSlopes ?? [])
        {
            Guard.Finite(slope, nameof(AlibiSlopes));
        }
    }

    /// <summary>The terms of the scores as the implementations take them; the options have been checked against the problem.</summary>
    internal ScoreTerms<T> ToTerms<T>(in AttentionProblem problem, AttentionTensor? rowFactors)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        T[]? slopes = AlibiSlopes?.Select(T.CreateTruncating).ToArray();
        return new ScoreTerms<T>(
            T.CreateTruncating(Scale ?? (1 / Math.Sqrt(problem.HeadDim))), RowFactorArray<T>(problem, rowFactors), slopes);
    }

    private HostArray<T>? RowFactorArray<T>(in AttentionProblem problem, AttentionTensor? rowFactors)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (rowFactors is not null || RowFactor.Kind == RowFactorKind.None)
        {
            return HostTensors.ReadOptional<T>(rowFactors);
        }

        HostArray<T> g = new(problem.RowShape);
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    g.Row(b, h, i)[0] = T.CreateTruncating(RowFactor.Of(problem, h, i));
                }
            }
        }

        return g;
    }
}
