using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Alpha-entmax (arXiv 1905.05702, 1909.00015): z = (alpha - 1) s, p_j = (z_j - tau)_+^(1/(alpha-1)) with sum p = 1.
/// With u = p^(2-alpha) on the support: ds_j = u_j (dp_j - delta), delta = sum u dp / sum u.
/// </summary>
internal sealed unsafe class EntmaxRow : RowFunction
{
    private readonly AttentionProblem _problem;
    private readonly double[] _alpha;
    private readonly RowSums _alphaGradient;

    /// <param name="problem">The problem.</param>
    /// <param name="alpha">In (1, 2], one for each query head.</param>
    internal EntmaxRow(in AttentionProblem problem, double[] alpha)
    {
        _problem = problem;
        _alpha = alpha;
        _alphaGradient = new RowSums(problem);
        Tau = new float[problem.RowShape.Count];
        Array.Fill(Tau, float.NaN);
        Support = new int[problem.RowShape.Count];
    }

    /// <summary>Threshold of z, not shifted, [batch, query heads, queries]; NaN for a row without a visible key.</summary>
    internal float[] Tau { get; }

    /// <summary>Number of keys whose weight is positive in float64, [batch, query heads, queries].</summary>
    internal int[] Support { get; }

    /// <summary>One for each query head.</summary>
    internal double[] AlphaGradient => _alphaGradient.PerHead();

    internal override bool WeightsSuffice => true;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        double alpha = _alpha[place.Head];
        EntmaxPower power = new(alpha);
        // The shifted tau lies in [-1, 0), where float32 is finest.
        float largest = RowLanes<TLanes, TVector>.Largest(row, count);
        int candidates = Shift<TLanes, TVector>(row, count, largest, (float)(alpha - 1), scratch);
        double tau = EntmaxThreshold<TLanes, TVector>.Solve(scratch, candidates, alpha, power);
        EntmaxCurve curve = new(power, tau);
        int support = 0;
        TVector threshold = TLanes.Broadcast(curve.Tau);
        // A key is in the support where its weight is not 0 in float64: y^b >= 2^-1074, which for alpha 1.01 is 5.8e-4 above the threshold.
        TVector least = TLanes.Broadcast((float)(tau + Math.Pow(2, -1074 * (alpha - 1))));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector z = TLanes.Load(row + c);
            ulong above = TLanes.NotAtMost(z, threshold);
            support += BitOperations.PopCount(TLanes.GreaterThan(z, least));
            TLanes.Store(
                row + c,
                above == 0 ? default : TLanes.WhereNotAtMost(z, threshold, curve.Weight<TLanes, TVector>(z)));
        }

        int index = place.Index(_problem);
        Tau[index] = (float)(tau + ((alpha - 1) * largest));
        Support[index] = support;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        double alpha = _alpha[place.Head];
        EntmaxPower power = new(alpha);
        TVector sumU = default;
        TVector sumUdp = default;
        TVector largest = default;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector p = TLanes.Load(weights + c);
            if (TLanes.NotAtMost(p, default) == 0)
            {
                continue;
            }

            largest = TLanes.Max(largest, p);
            TVector u = TLanes.WhereNotAtMost(p, default, power.Slope<TLanes, TVector>(p));
            sumU = TLanes.Add(sumU, u);
            sumUdp = TLanes.MultiplyAdd(u, TLanes.WhereNotAtMost(p, default, TLanes.Load(gradients + c)), sumUdp);
        }

        TVector delta = TLanes.Broadcast((float)((double)TLanes.Sum(sumUdp) / TLanes.Sum(sumU)));
        AlphaSlope slope = new(alpha, TLanes.Largest(largest));
        TVector dalpha = default;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector p = TLanes.Load(weights + c);
            TVector ds = default;
            if (TLanes.NotAtMost(p, default) != 0)
            {
                ds = TLanes.Multiply(power.Slope<TLanes, TVector>(p), TLanes.Subtract(TLanes.Load(gradients + c), delta));
                ds = TLanes.WhereNotAtMost(p, default, ds);
                dalpha = TLanes.MultiplyAdd(ds, TLanes.WhereNotAtMost(p, default, slope.Of<TLanes, TVector>(p)), dalpha);
            }

            TLanes.Store(gradients + c, ds);
        }

        _alphaGradient[place] = TLanes.Sum(dalpha);
    }

    /// <summary>
    /// Writes z - max z into the row and those values above -1, the only ones that can be in the support, into <paramref name="above"/>,
    /// followed by -infinity.
    /// </summary>
    /// <returns>Number of values above -1; NaN counts.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Shift<TLanes, TVector>(float* row, int count, float largest, float factor, float* above)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector shift = TLanes.Broadcast(largest);
        TVector scale = TLanes.Broadcast(factor);
        TVector floor = TLanes.Broadcast(-1);
        int found = 0;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector z = TLanes.Multiply(scale, TLanes.Subtract(TLanes.Load(row + c), shift));
            TLanes.Store(row + c, z);
            for (ulong bits = TLanes.NotAtMost(z, floor); bits != 0; bits &= bits - 1)
            {
                above[found++] = row[c + BitOperations.TrailingZeroCount(bits)];
            }
        }

        for (int c = found; c % TLanes.Count != 0; c++)
        {
            above[c] = float.NegativeInfinity;
        }

        return found;
    }
}
