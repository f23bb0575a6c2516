using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>What sum_j ds_j x_j = dalpha takes for x in a row of alpha-entmax weights.</summary>
/// <remarks>
/// With a = alpha - 1 and y = p^a the derivative of 1909.00015 becomes sum ds h(y) / a^2, h(y) = y (1 - ln y). The ds sum to 0, so that
/// h(y_0) of the largest weight may be taken off: with r = ln(p / p_0) and t = a r
/// <code>
/// (h(y) - h(y_0)) / a^2 = y_0 ((e^t (1 - t) - 1) / a^2 - ln p_0 (e^t - 1) / a)
/// </code>
/// Both terms have the same sign, and their series in t keep for alpha near 1 and for nearly equal weights the digits that the
/// differences would lose.
/// </remarks>
internal readonly struct AlphaSlope
{
    private readonly float _a;
    private readonly float _inverse;
    private readonly float _minusLog;
    private readonly float _level;

    /// <param name="alpha">In (1, 2].</param>
    /// <param name="largest">The largest weight of the row.</param>
    internal AlphaSlope(double alpha, float largest)
    {
        _a = (float)(alpha - 1);
        _inverse = 1 / largest;
        _minusLog = (float)-Math.Log(largest);
        _level = (float)Math.Pow(largest, alpha - 1);
    }

    /// <summary>x of weights; where a weight is not positive, anything.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Of<TLanes, TVector>(TVector weight)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector a = TLanes.Broadcast(_a);
        TVector one = TLanes.Broadcast(1);
        TVector r = TLanes.Log(TLanes.Multiply(weight, TLanes.Broadcast(_inverse)));
        TVector whole = TLanes.Multiply(a, r);
        TVector t = TLanes.Clamp(whole, -0.5f, 0);
        TVector near = TLanes.Multiply(r, TLanes.MultiplyAdd(
            Bent<TLanes, TVector>(t), r, TLanes.Multiply(Straight<TLanes, TVector>(t), TLanes.Broadcast(_minusLog))));
        TVector power = LaneMath<TLanes, TVector>.Exp(whole);
        TVector bent = TLanes.Subtract(TLanes.Multiply(power, TLanes.Subtract(one, whole)), one);
        TVector straight = TLanes.Multiply(TLanes.Subtract(power, one), TLanes.Multiply(a, TLanes.Broadcast(_minusLog)));
        TVector far = TLanes.Divide(TLanes.Add(bent, straight), TLanes.Multiply(a, a));
        TVector square = TLanes.Multiply(whole, whole);
        TVector quarter = TLanes.Broadcast(0.25f);
        near = TLanes.Subtract(near, TLanes.WhereNotAtMost(square, quarter, near));
        return TLanes.Multiply(TLanes.Broadcast(_level), TLanes.Add(near, TLanes.WhereNotAtMost(square, quarter, far)));
    }

    /// <summary>(e^t (1 - t) - 1) / t^2 = -(1/2 + t/3 + t^2/8 + ...) for t in [-1/2, 0].</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Bent<TLanes, TVector>(TVector t)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector q = TLanes.Broadcast(-1f / 45360);
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 5760));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 840));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 144));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 30));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 8));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-1f / 3));
        return TLanes.MultiplyAdd(q, t, TLanes.Broadcast(-0.5f));
    }

    /// <summary>(e^t - 1) / t = 1 + t/2 + t^2/6 + ... for t in [-1/2, 0].</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Straight<TLanes, TVector>(TVector t)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector q = TLanes.Broadcast(1f / 40320);
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1f / 5040));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1f / 720));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1f / 120));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1f / 24));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1f / 6));
        q = TLanes.MultiplyAdd(q, t, TLanes.Broadcast(0.5f));
        return TLanes.MultiplyAdd(q, t, TLanes.Broadcast(1));
    }
}
