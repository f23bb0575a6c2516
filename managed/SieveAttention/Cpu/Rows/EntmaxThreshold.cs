using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// The threshold of alpha-entmax: the tau with f(tau) = sum_j (z_j - tau)_+^b - 1 = 0 for values z whose maximum is 0, so that
/// -1 &lt;= tau &lt;= -n^(1-alpha), n = number of values above -1. Safeguarded Halley steps (arXiv 2502.12082) from the middle of the
/// bracket; Gaussian scores take 4 or 5.
/// </summary>
internal static unsafe class EntmaxThreshold<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    private const int MostSteps = 60;

    /// <summary>Finds tau to a few roundings of the sum of weights in float32, which for alpha near 1 is finer than the spacing of float32.</summary>
    /// <param name="z">Values above -1, their maximum 0, followed by -infinity.</param>
    /// <param name="count">Number of values.</param>
    /// <param name="alpha">In (1, 2].</param>
    /// <param name="power">Powers for that alpha.</param>
    internal static double Solve(float* z, int count, double alpha, EntmaxPower power)
    {
        // The maximum alone: exact, and the gradient of the scores then is exactly 0.
        if (count == 1)
        {
            return -1;
        }

        float low = -1;
        float high = (float)-Math.Pow(count, 1 - alpha);
        float tau = 0.5f * (low + high);
        double newton = tau;
        for (int step = 0; step < MostSteps; step++)
        {
            (double f, double f1, double f2) = Excess(z, count, new EntmaxCurve(power, tau), power.B);
            newton = tau - (f / f1);
            if (f == 0)
            {
                break;
            }

            if (f > 0)
            {
                low = tau;
            }
            else
            {
                high = tau;
            }

            double halley = tau - (2 * f * f1 / ((2 * f1 * f1) - (f * f2)));
            float next = halley >= low && halley <= high ? (float)halley : 0.5f * (low + high);
            if (next == tau)
            {
                break;
            }

            tau = next;
        }

        // The last step is smaller than the spacing of float32.
        return newton;
    }

    /// <summary>f and its first two derivatives.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static (double F, double F1, double F2) Excess(float* z, int count, EntmaxCurve curve, double b)
    {
        TVector threshold = TLanes.Broadcast(curve.Tau);
        double f = 0;
        double f1 = 0;
        double f2 = 0;
        for (int first = 0; first < count; first += RowLanes<TLanes, TVector>.Block)
        {
            int end = Math.Min(first + RowLanes<TLanes, TVector>.Block, count);
            TVector sum = default;
            TVector sum1 = default;
            TVector sum2 = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                TVector value = TLanes.Load(z + c);
                (TVector second, TVector slope, TVector weight) = curve.Derivatives<TLanes, TVector>(value);
                sum = TLanes.Add(sum, TLanes.WhereNotAtMost(value, threshold, weight));
                sum1 = TLanes.Add(sum1, TLanes.WhereNotAtMost(value, threshold, slope));
                sum2 = TLanes.Add(sum2, TLanes.WhereNotAtMost(value, threshold, second));
            }

            f += TLanes.Sum(sum);
            f1 += TLanes.Sum(sum1);
            f2 += TLanes.Sum(sum2);
        }

        return (f - 1, -b * f1, b * (b - 1) * f2);
    }
}
