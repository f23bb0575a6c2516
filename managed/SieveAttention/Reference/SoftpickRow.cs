namespace SieveAttention.Reference;

/// <summary>
/// Softpick (arXiv 2504.20966): w_j = relu(e^s_j - 1) / D, D = sum_j |e^s_j - 1| + eps;
/// ds_j = e^s_j / D (1[s_j > 0] dw_j - sign(s_j) sum w dw). Weights need not sum to 1.
/// </summary>
internal sealed class SoftpickRow(double epsilon) : RowFunction
{
    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        double m = Level(s);
        double sum = Sum(s, m);
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = s[j] <= 0 ? 0 : Excess(s[j], m) / sum;
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        double m = Level(s);
        double sum = Sum(s, m);
        double delta = 0;
        for (int j = 0; j < s.Length; j++)
        {
            // A weight of 0 contributes nothing, whatever its value row holds.
            delta += w[j] == 0 ? 0 : w[j] * dw[j];
        }

        for (int j = 0; j < s.Length; j++)
        {
            double slope = Math.Exp(s[j] - m) / sum;
            ds[j] = slope * ((s[j] > 0 ? dw[j] - delta : 0) + (s[j] < 0 ? delta : 0));
        }
    }

    /// <summary>m = max(largest score, 0), taken out of all exponentials: neither e^(s-m) nor e^-m overflows.</summary>
    private static double Level(ReadOnlySpan<double> s)
    {
        double m = 0;
        foreach (double score in s)
        {
            m = Math.Max(m, score);
        }

        return m;
    }

    /// <summary>(e^s - 1) e^-m; near 0 as 2 e^(s/2) sinh(s/2), which keeps the digits that the difference would lose.</summary>
    private static double Excess(double s, double m) =>
        Math.Abs(s) < 1 ? 2 * Math.Exp((s / 2) - m) * Math.Sinh(s / 2) : Math.Exp(s - m) - Math.Exp(-m);

    /// <summary>D e^-m.</summary>
    private double Sum(ReadOnlySpan<double> s, double m)
    {
        double sum = epsilon * Math.Exp(-m);
        foreach (double score in s)
        {
            sum += Math.Abs(Excess(score, m));
        }

        return sum;
    }
}
