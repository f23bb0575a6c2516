using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>The weight p = (z - tau)^b and its derivatives for one tau in [-1, 0), of values z in (tau, 0]; others give any value, also NaN.</summary>
/// <remarks>
/// Where b is no small whole number, p = exp(b ln t + b ln(1 + z / t)) with t = -tau. b is 100 for alpha 1.01, and the rounding of z - tau
/// would come back 100 times as large in p; of the two terms here the first is computed in double and the second is off by a few
/// roundings of itself, so that p is as exact as that of softmax.
/// </remarks>
internal readonly struct EntmaxCurve
{
    private readonly float _b;
    private readonly float _level;
    private readonly float _inverse;
    private readonly int _factors;

    internal EntmaxCurve(EntmaxPower power, double tau)
    {
        Tau = (float)tau;
        _b = (float)power.B;
        _level = (float)(power.B * Math.Log(-tau));
        _inverse = (float)(-1 / tau);
        _factors = power.Factors;
    }

    internal float Tau { get; }

    /// <summary>(z - tau)^b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Weight<TLanes, TVector>(TVector z)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector y = TLanes.Subtract(z, TLanes.Broadcast(Tau));
        return _factors switch
        {
            1 => y,
            2 => TLanes.Multiply(y, y),
            _ => Power<TLanes, TVector>(z, y),
        };
    }

    /// <summary>(z - tau)^(b-2), (z - tau)^(b-1) and (z - tau)^b. For b = 1 only the last two are right.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal (TVector Second, TVector First, TVector Weight) Derivatives<TLanes, TVector>(TVector z)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector one = TLanes.Broadcast(1);
        TVector y = TLanes.Subtract(z, TLanes.Broadcast(Tau));
        switch (_factors)
        {
            case 1:
                return (default, one, y);
            case 2:
                return (one, y, TLanes.Multiply(y, y));
            default:
                TVector weight = Power<TLanes, TVector>(z, y);
                TVector inverse = TLanes.Divide(one, y);
                TVector first = TLanes.Multiply(weight, inverse);
                return (TLanes.Multiply(first, inverse), first, weight);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private TVector Power<TLanes, TVector>(TVector z, TVector y)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector inverse = TLanes.Broadcast(_inverse);
        TVector ratio = TLanes.Multiply(y, inverse);
        TVector log = TLanes.Log(ratio);
        // ln(1 + u) of u = z / t near 0: what the rounding of 1 + u lost is added back to first order.
        TVector lost = TLanes.Subtract(TLanes.Multiply(z, inverse), TLanes.Subtract(ratio, TLanes.Broadcast(1)));
        log = TLanes.Add(log, TLanes.WhereNotAtMost(ratio, TLanes.Broadcast(0.5f), TLanes.Divide(lost, ratio)));
        return LaneMath<TLanes, TVector>.Exp(TLanes.MultiplyAdd(TLanes.Broadcast(_b), log, TLanes.Broadcast(_level)));
    }
}
