namespace SieveAttention.Reference;

/// <summary>
/// Softmax attention in float64: x_i = sum over visible j of exp(s_ij - lse_i) v_j. No epilogue. Also the part of which differential
/// and sparse attention are made.
/// </summary>
internal static class Softmax
{
    /// <summary>What the forward pass returns.</summary>
    /// <param name="Output">[batch, query heads, queries, value_dim], before the epilogue.</param>
    /// <param name="LogSumExp">Natural logarithm of the sum of exponentials, [batch, query heads, queries].</param>
    internal sealed record ForwardResult(HostArray<double> Output, double[] LogSumExp);

    internal static ForwardResult Forward(
        in AttentionProblem problem, ScoreTerms<double> terms, HostArray<double> q, HostArray<double> k, HostArray<double> v)
    {
        SoftmaxRow row = new(problem);
        HostArray<double> x = RowAttention.Forward(problem, terms, row, q, k, v);
        return new ForwardResult(x, row.LogSumExp);
    }

    internal static RowGradients<double> Backward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        HostArray<double> q,
        HostArray<double> k,
        HostArray<double> v,
        HostArray<double> dx) => RowAttention.Backward(problem, terms, new SoftmaxRow(problem), q, k, v, dx);
}
