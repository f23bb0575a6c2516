using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Powers of y = z - tau &gt; 0 with b = 1/(alpha - 1): the weight p = y^b and its slope. Products for alpha 1.5 (b = 2) and 2 (b = 1),
/// exponentials of logarithms otherwise. A y that is not positive gives any value, also NaN.
/// </summary>
internal readonly struct EntmaxPower(double alpha)
{
    private readonly float _b = (float)(1 / (alpha - 1));
    private readonly float _slope = (float)(2 - alpha);
    private readonly int _product = alpha == 2 ? 1 : alpha == 1.5 ? 2 : 0;

    internal double B { get; } = 1 / (alpha - 1);

    /// <summary>b where y^b is a product of that many y, else 0.</summary>
    internal int Factors => _product;

    /// <summary>y^b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Weight<TLanes, TVector>(TVector y)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => y,
            2 => TLanes.Multiply(y, y),
            _ => LaneMath<TLanes, TVector>.Exp(TLanes.Multiply(TLanes.Broadcast(_b), TLanes.Log(y))),
        };

    /// <summary>u = p^(2-alpha) = y^(b-1) of a weight p &gt; 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal TVector Slope<TLanes, TVector>(TVector weight)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct => _product switch
        {
            1 => TLanes.Broadcast(1),
            2 => TLanes.Sqrt(weight),
            _ => LaneMath<TLanes, TVector>.Exp(TLanes.Multiply(TLanes.Broadcast(_slope), TLanes.Log(weight))),
        };
}
