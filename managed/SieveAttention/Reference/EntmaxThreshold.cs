namespace SieveAttention.Reference;

/// <summary>
/// The threshold of alpha-entmax: the tau with sum_j (z_j - tau)_+^(1/(alpha-1)) = 1 for values z whose maximum is 0, so that
/// -1 &lt;= tau &lt;= -n^(1-alpha). Exact by sorting for alpha 1.5 and 2 (arXiv 1905.05702, appendix), else safeguarded Halley steps
/// (arXiv 2502.12082) down to the spacing of float64.
/// </summary>
internal static class EntmaxThreshold
{
    private const int MostSteps = 200;

    internal static double Solve(ReadOnlySpan<double> z, double alpha) => alpha switch
    {
        1.5 => SolveSquares(Sorted(z)),
        2 => SolveSimplex(Sorted(z)),
        _ => SolveBracketed(z, alpha),
    };

    /// <summary>Safeguarded Halley steps for any alpha; where one leaves the bracket, the middle is taken.</summary>
    internal static double SolveBracketed(ReadOnlySpan<double> z, double alpha)
    {
        double lo = -1;
        double hi = -Math.Pow(z.Length, 1 - alpha);
        // The ends are the answer for a single dominating score and for equal scores; they are kept exact.
        if (Excess(z, alpha, lo).F <= 0)
        {
            return lo;
        }

        if (Excess(z, alpha, hi).F >= 0)
        {
            return hi;
        }

        double t = 0.5 * (lo + hi);
        for (int step = 0; step < MostSteps; step++)
        {
            (double f, double f1, double f2) = Excess(z, alpha, t);
            if (f == 0)
            {
                return t;
            }

            if (f > 0)
            {
                lo = t;
            }
            else
            {
                hi = t;
            }

            double next = t - (2 * f * f1 / ((2 * f1 * f1) - (f * f2)));
            if (!(next > lo && next < hi))
            {
                next = 0.5 * (lo + hi);
            }

            // A step below the spacing of t does not change it any more.
            if (next == t || next <= lo || next >= hi)
            {
                return t;
            }

            t = next;
        }

        return t;
    }

    /// <summary>f = sum y^b - 1, f' = -b sum y^(b-1), f'' = b (b-1) sum y^(b-2) over y = z - tau &gt; 0, with b = 1/(alpha-1).</summary>
    private static (double F, double F1, double F2) Excess(ReadOnlySpan<double> z, double alpha, double tau)
    {
        double b = 1 / (alpha - 1);
        double f = -1;
        double f1 = 0;
        double f2 = 0;
        foreach (double value in z)
        {
            if (value > tau)
            {
                double y = value - tau;
                double power = Math.Pow(y, b);
                f += power;
                f1 -= b * power / y;
                f2 += b * (b - 1) * power / (y * y);
            }
        }

        return (f, f1, f2);
    }

    /// <summary>alpha 2: k* = max{k : 1 + k z_(k) > C_k}, C_k prefix sums, tau = (C_k* - 1) / k*.</summary>
    private static double SolveSimplex(double[] sorted)
    {
        double sum = 0;
        double tau = -1;
        for (int k = 1; k <= sorted.Length; k++)
        {
            sum += sorted[k - 1];
            if (!(1 + (k * sorted[k - 1]) > sum))
            {
                break;
            }

            tau = (sum - 1) / k;
        }

        return tau;
    }

    /// <summary>
    /// alpha 1.5: tau_k = M_k - sqrt((1 - SS_k) / k) with the mean M_k and the squared deviations SS_k of the k largest; k* is the number
    /// of k with tau_k &lt;= z_(k), and they are the first ones.
    /// </summary>
    private static double SolveSquares(double[] sorted)
    {
        double sum = 0;
        double squares = 0;
        double tau = -1;
        for (int k = 1; k <= sorted.Length; k++)
        {
            double z = sorted[k - 1];
            // Values of -1 and less are never in the support; left out, the squares stay small and exact.
            if (!(z > -1))
            {
                break;
            }

            sum += z;
            squares += z * z;
            double mean = sum / k;
            double deviations = squares - (k * mean * mean);
            double next = mean - Math.Sqrt(Math.Max(0, 1 - deviations) / k);
            if (next > z)
            {
                break;
            }

            tau = next;
        }

        return tau;
    }

    private static double[] Sorted(ReadOnlySpan<double> z)
    {
        double[] sorted = z.ToArray();
        Array.Sort(sorted);
        Array.Reverse(sorted);
        return sorted;
    }
}
