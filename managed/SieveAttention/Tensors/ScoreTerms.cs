using System.Numerics;

namespace SieveAttention;

/// <summary>
/// What turns products of queries and keys into scores, as the host implementations take it:
/// s_ij = scale g_i (q_i . k_j) - slope_h (i + offset - j).
/// </summary>
/// <param name="Scale">Factor of every product.</param>
/// <param name="RowFactor">g, [batch, query heads, queries, 1]; null = 1.</param>
/// <param name="AlibiSlopes">One slope for each query head; null = 0.</param>
internal sealed record ScoreTerms<T>(T Scale, HostArray<T>? RowFactor = null, T[]? AlibiSlopes = null)
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>g of a row.</summary>
    internal T Factor(int batch, int head, int row) => RowFactor is null ? T.One : RowFactor.Row(batch, head, row)[0];

    /// <summary>-slope_h (i + offset - j): what is added to the scaled product of a pair.</summary>
    internal T Bias(in AttentionProblem problem, int head, int row, int key) =>
        AlibiSlopes is null ? T.Zero : -AlibiSlopes[head] * T.CreateTruncating(row + problem.QueryOffset - key);
}

/// <summary>Gradients of an operator with one view of queries and keys, before the epilogue's.</summary>
/// <param name="Query">Of the shape of the queries.</param>
/// <param name="Key">Of the shape of the keys.</param>
/// <param name="Value">Of the shape of the values.</param>
/// <param name="RowFactor">dg, [batch, query heads, queries, 1]; null where the scores have no row factor.</param>
internal sealed record RowGradients<T>(HostArray<T> Query, HostArray<T> Key, HostArray<T> Value, HostArray<T>? RowFactor)
    where T : unmanaged, IFloatingPointIeee754<T>;
