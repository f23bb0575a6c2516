using System.Numerics.Tensors;

namespace SieveAttention;

/// <summary>
/// The scores of one view of queries and keys, one row at a time: s_ij = scale g_i (q_i . k_j) - slope_h (i + offset - j).
/// </summary>
internal sealed class ScoreRows(AttentionProblem problem, ScoreTerms<double> terms, HostArray<double> queries, HostArray<double> keys)
{
    internal AttentionProblem Problem => problem;

    /// <summary>Computes the scores of the visible keys of a row, from index 0 of the span on.</summary>
    internal void Read(in RowPlace place, Span<double> scores)
    {
        ReadOnlySpan<double> query = queries.Row(place.Batch, place.Head, place.Row);
        ReadOnlySpan<double> headKeys = keys.Head(place.Batch, problem.KeyHead(place.Head));
        double factor = terms.Scale * terms.Factor(place.Batch, place.Head, place.Row);
        for (int n = 0; n < place.Visible.Count; n++)
        {
            int key = place.Visible.First + n;
            double product = TensorPrimitives.Dot(query, headKeys.Slice(key * query.Length, query.Length));
            scores[n] = (factor * product) + terms.Bias(problem, place.Head, place.Row, key);
        }
    }
}
