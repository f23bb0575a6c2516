namespace SieveAttention.Reference;

/// <summary>
/// Alpha-entmax (arXiv 1905.05702, 1909.00015): z = (alpha - 1) s, p_j = (z_j - tau)_+^(1/(alpha-1)) with sum p = 1.
/// With u = p^(2-alpha) on the support: ds_j = u_j (dp_j - delta), delta = sum u dp / sum u.
/// </summary>
internal sealed class EntmaxRow : RowFunction
{
    private readonly AttentionProblem _problem;
    private readonly double[] _alpha;

    /// <param name="problem">The problem.</param>
    /// <param name="alpha">In (1, 2], one for each query head.</param>
    internal EntmaxRow(in AttentionProblem problem, double[] alpha)
    {
        _problem = problem;
        _alpha = alpha;
        Tau = new double[problem.RowShape.Count];
        Array.Fill(Tau, double.NaN);
        Support = new int[problem.RowShape.Count];
        AlphaGradient = new double[problem.QueryHeads];
    }

    /// <summary>Threshold of z, not shifted, [batch, query heads, queries]; NaN for a row without a visible key.</summary>
    internal double[] Tau { get; }

    /// <summary>Number of positive weights, [batch, query heads, queries].</summary>
    internal int[] Support { get; }

    /// <summary>One for each query head.</summary>
    internal double[] AlphaGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        double alpha = _alpha[place.Head];
        double max = double.NegativeInfinity;
        foreach (double score in s)
        {
            max = Math.Max(max, score);
        }

        // The shifted tau lies in [-1, 0), where float64 is finest; w holds z - max z until the weights are known.
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = (alpha - 1) * (s[j] - max);
        }

        double tau = EntmaxThreshold.Solve(w, alpha);
        int support = 0;
        for (int j = 0; j < s.Length; j++)
        {
            // Written so that NaN stays NaN instead of turning into a key outside the support.
            double y = w[j] <= tau ? 0 : w[j] - tau;
            w[j] = alpha == 2 ? y : alpha == 1.5 ? y * y : Math.Pow(y, 1 / (alpha - 1));
            support += w[j] > 0 ? 1 : 0;
        }

        int row = place.Index(_problem);
        Tau[row] = tau + ((alpha - 1) * max);
        Support[row] = support;
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        double alpha = _alpha[place.Head];
        double sumU = 0;
        double sumUdw = 0;
        double entropy = 0;
        for (int j = 0; j < s.Length; j++)
        {
            double p = w[j];
            if (p != 0)
            {
                double u = Math.Pow(p, 2 - alpha);
                sumU += u;
                sumUdw += u * dw[j];
                entropy += p * Math.Log(p);
            }
        }

        // dp_j/dalpha = (p_j - ut_j) / (alpha-1)^2 - (p_j ln p_j - ut_j h) / (alpha-1),  ut = u / sum u,  h = sum p ln p
        double delta = sumUdw / sumU;
        double a = alpha - 1;
        double dalpha = 0;
        for (int j = 0; j < s.Length; j++)
        {
            double p = w[j];
            if (p == 0)
            {
                ds[j] = 0;
                continue;
            }

            double u = Math.Pow(p, 2 - alpha);
            ds[j] = u * (dw[j] - delta);
            double ut = u / sumU;
            dalpha += dw[j] * (((p - ut) / (a * a)) - (((p * Math.Log(p)) - (ut * entropy)) / a));
        }

        AlphaGradient[place.Head] += dalpha;
    }
}
