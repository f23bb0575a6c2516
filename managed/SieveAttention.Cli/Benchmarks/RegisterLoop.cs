using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>Independent fused multiply-adds that touch no memory: what the cores can do at most.</summary>
internal sealed class RegisterLoop(long steps) : ILaneWork
{
    private const int Chains = 12;

    private float _result;

    /// <summary>Floating-point operations of one run on one thread, with vectors of so many numbers.</summary>
    public double Operations(int width) => steps * Chains * 2.0 * width;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector x = TLanes.Broadcast(0.5f);
        (TVector a, TVector b, TVector c, TVector d, TVector e, TVector f) = (x, x, x, x, x, x);
        (TVector g, TVector h, TVector i, TVector j, TVector k, TVector l) = (x, x, x, x, x, x);
        for (long step = 0; step < steps; step++)
        {
            a = TLanes.MultiplyAdd(a, x, x);
            b = TLanes.MultiplyAdd(b, x, x);
            c = TLanes.MultiplyAdd(c, x, x);
            d = TLanes.MultiplyAdd(d, x, x);
            e = TLanes.MultiplyAdd(e, x, x);
            f = TLanes.MultiplyAdd(f, x, x);
            g = TLanes.MultiplyAdd(g, x, x);
            h = TLanes.MultiplyAdd(h, x, x);
            i = TLanes.MultiplyAdd(i, x, x);
            j = TLanes.MultiplyAdd(j, x, x);
            k = TLanes.MultiplyAdd(k, x, x);
            l = TLanes.MultiplyAdd(l, x, x);
        }
        TVector sum = TLanes.Add(TLanes.Add(TLanes.Add(a, b), TLanes.Add(c, d)), TLanes.Add(TLanes.Add(e, f), TLanes.Add(g, h)));
        // Keeps the loop from being removed.
        _result = TLanes.Sum(TLanes.Add(sum, TLanes.Add(TLanes.Add(i, j), TLanes.Add(k, l))));
        if (!(_result > 0))
        {
            throw new InvalidOperationException("the sum of positive numbers is not positive");
        }
    }
}
