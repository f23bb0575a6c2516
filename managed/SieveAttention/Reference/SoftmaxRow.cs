namespace SieveAttention.Reference;

/// <summary>
/// Softmax: w_j = exp(s_j - lse), lse = ln sum_j exp(s_j);  ds_j = w_j (dw_j - sum w dw). A row without a visible key has lse = -infinity.
/// </summary>
internal sealed class SoftmaxRow : RowFunction
{
    private readonly AttentionProblem _problem;

    internal SoftmaxRow(in AttentionProblem problem)
    {
        _problem = problem;
        LogSumExp = new double[problem.RowShape.Count];
        Array.Fill(LogSumExp, double.NegativeInfinity);
    }

    /// <summary>[batch, query heads, queries].</summary>
    internal double[] LogSumExp { get; }

    /// <summary>Computes the weights and returns lse; the maximum is taken out, so that no exponential overflows.</summary>
    internal static double Weigh(ReadOnlySpan<double> s, Span<double> w)
    {
        double m = double.NegativeInfinity;
        foreach (double score in s)
        {
            m = Math.Max(m, score);
        }

        double sum = 0;
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = Math.Exp(s[j] - m);
            sum += w[j];
        }

        for (int j = 0; j < s.Length; j++)
        {
            w[j] /= sum;
        }

        return m + Math.Log(sum);
    }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w) =>
        LogSumExp[place.Index(_problem)] = Weigh(s, w);

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        double delta = UnitVectors.Dot(w, dw);
        for (int j = 0; j < ds.Length; j++)
        {
            ds[j] = w[j] * (dw[j] - delta);
        }
    }
}
