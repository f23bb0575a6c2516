using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// The weight e^p of an exceedance e = s - tau &gt; 0 and its slope p e^(p-1). Powers 1, 2 and 3 are products; the same products, in the same
/// order, on vectors and on single floats, so that both give the same bits.
/// </summary>
internal readonly struct ThresholdPower(double power)
{
    private readonly float _power = (float)power;
    private readonly int _product = power is 1 or 2 or 3 ? (int)power : 0;

    /// <summary>Whether the power is a product and has a vector form.</summary>
    internal bool IsProduct => _product != 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal float Weight(float exceedance) => _product switch
    {
        1 => exceedance,
        2 => exceedance * exceedance,
        3 => exceedance * exceedance * exceedance,
        _ => MathF.Pow(exceedance, _power),
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal float Slope(float exceedance) => _product switch
    {
        1 => 1,
        2 => 2 * exceedance,
        3 => 3 * (exceedance * exceedance),
        _ => _power * MathF.Pow(exceedance, _power - 1),
    };

    /// <summary>Lanewise <see cref="Weight(float)"/>; powers that are products only.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Weight<TLanes, TVector>(TVector exceedance)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => exceedance,
            2 => TLanes.Multiply(exceedance, exceedance),
            _ => TLanes.Multiply(TLanes.Multiply(exceedance, exceedance), exceedance),
        };

    /// <summary>Lanewise <see cref="Slope(float)"/>; powers that are products only.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Slope<TLanes, TVector>(TVector exceedance)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => TLanes.Broadcast(1),
            2 => TLanes.Multiply(TLanes.Broadcast(2), exceedance),
            _ => TLanes.Multiply(TLanes.Broadcast(3), TLanes.Multiply(exceedance, exceedance)),
        };
}
