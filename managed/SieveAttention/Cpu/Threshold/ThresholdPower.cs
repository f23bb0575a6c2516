using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// The weight e^p of an exceedance e = s - tau &gt; 0 and its slope p e^(p-1). Powers 1, 2 and 3 are products, others exp(p ln e).
/// Single floats take the same steps as lanes, so that both give the same bits. An e that is not positive gives any value, also NaN.
/// </summary>
internal readonly struct ThresholdPower(double power)
{
    private readonly float _power = (float)power;
    private readonly int _product = power is 1 or 2 or 3 ? (int)power : 0;

    internal float Weight(float exceedance) => Weight<Lanes128, Vector128<float>>(Vector128.Create(exceedance)).ToScalar();

    internal float Slope(float exceedance) => Slope<Lanes128, Vector128<float>>(Vector128.Create(exceedance)).ToScalar();

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Weight<TLanes, TVector>(TVector exceedance)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => exceedance,
            2 => TLanes.Multiply(exceedance, exceedance),
            3 => TLanes.Multiply(TLanes.Multiply(exceedance, exceedance), exceedance),
            _ => Power<TLanes, TVector>(exceedance, _power),
        };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Slope<TLanes, TVector>(TVector exceedance)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => TLanes.Broadcast(1),
            2 => TLanes.Multiply(TLanes.Broadcast(2), exceedance),
            3 => TLanes.Multiply(TLanes.Broadcast(3), TLanes.Multiply(exceedance, exceedance)),
            _ => TLanes.Multiply(TLanes.Broadcast(_power), Power<TLanes, TVector>(exceedance, _power - 1)),
        };

    private static TVector Power<TLanes, TVector>(TVector exceedance, float power)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct =>
        LaneMath<TLanes, TVector>.Exp(TLanes.Multiply(TLanes.Broadcast(power), TLanes.Log(exceedance)));
}
