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

    /// <summary>Number of keys above the threshold, [batch, query heads, queries].</summary>
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
        float tau = EntmaxThreshold<TLanes, TVector>.Solve(scratch, candidates, alpha, power);
        int support = 0;
        TVector threshold = TLanes.Broadcast(tau);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector z = TLanes.Load(row + c);
            ulong above = TLanes.NotAtMost(z, threshold);
            support += BitOperations.PopCount(TLanes.GreaterThan(z, threshold));
            TLanes.Store(
                row + c,
                above == 0 ? default : TLanes.WhereNotAtMost(z, threshold, power.Weight<TLanes, TVector>(TLanes.Subtract(z, threshold))));
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
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector p = TLanes.Load(weights + c);
            if (TLanes.NotAtMost(p, default) == 0)
            {
                continue;
            }

            TVector u = TLanes.WhereNotAtMost(p, default, power.Slope<TLanes, TVector>(p));
            sumU = TLanes.Add(sumU, u);
            sumUdp = TLanes.MultiplyAdd(u, TLanes.WhereNotAtMost(p, default, TLanes.Load(gradients + c)), sumUdp);
        }

        TVector delta = TLanes.Broadcast((float)((double)TLanes.Sum(sumUdp) / TLanes.Sum(sumU)));
        TVector a = TLanes.Broadcast((float)(alpha - 1));
        TVector dalpha = default;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector p = TLanes.Load(weights + c);
            TVector ds = default;
            if (TLanes.NotAtMost(p, default) != 0)
            {
                ds = TLanes.Multiply(power.Slope<TLanes, TVector>(p), TLanes.Subtract(TLanes.Load(gradients + c), delta));
                ds = TLanes.WhereNotAtMost(p, default, ds);
                TVector slope = TLanes.WhereNotAtMost(p, default, AlphaSlope<TLanes, TVector>(p, a));
                dalpha = TLanes.MultiplyAdd(ds, slope, dalpha);
            }

            TLanes.Store(gradients + c, ds);
        }

        _alphaGradient[place] = TLanes.Sum(dalpha);
    }

    /// <summary>
    /// What sum_j ds_j x_j = dalpha takes for x. With y = p^(alpha-1) the derivative of 1909.00015 becomes
    /// sum ds y (1 - ln y) / (alpha-1)^2; the ds sum to 0, so that 1 may be taken off y (1 - ln y). With x = ln y that is
    /// e^x (1 - x) - 1 = -(x^2/2 + x^3/3 + x^4/8 + ...), which for alpha near 1 keeps the digits that the difference would lose.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector AlphaSlope<TLanes, TVector>(TVector p, TVector a)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector log = TLanes.Log(p);
        TVector x = TLanes.Multiply(a, log);
        TVector t = TLanes.Clamp(x, -0.5f, 0);
        TVector q = TLanes.Broadcast(-1f / 45360);
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 5760));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 840));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 144));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 30));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 8));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 3));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-0.5f));
        TVector near = TLanes.Multiply(q, TLanes.Multiply(log, log));
        TVector one = TLanes.Broadcast(1);
        TVector whole = TLanes.Multiply(LaneMath<TLanes, TVector>.Exp(x), TLanes.Subtract(one, x));
        TVector far = TLanes.Divide(TLanes.Subtract(whole, one), TLanes.Multiply(a, a));
        TVector square = TLanes.Multiply(x, x);
        TVector quarter = TLanes.Broadcast(0.25f);
        near = TLanes.Subtract(near, TLanes.WhereNotAtMost(square, quarter, near));
        return TLanes.Add(near, TLanes.WhereNotAtMost(square, quarter, far));
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
