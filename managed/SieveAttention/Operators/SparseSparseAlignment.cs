using System.Numerics;

namespace SieveAttention;

/// <summary>
/// The alignment of both streams of sparse sparse attention: loss = SL1(h_f, sg(h_s)) + SL1(sg(h_f), h_s), with SL1 the mean of SmoothL1
/// (beta = 1) over all elements and sg a stop of the gradient. So the loss is twice one SL1, and its gradient that of one.
/// </summary>
internal static class SparseSparseAlignment
{
    internal static double Loss<T>(HostArray<T> full, HostArray<T> sparse)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        double sum = 0;
        for (int n = 0; n < full.Data.Length; n++)
        {
            double d = Math.Abs(double.CreateTruncating(full.Data[n]) - double.CreateTruncating(sparse.Data[n]));
            sum += d < 1 ? 0.5 * d * d : d - 0.5;
        }

        return 2 * sum / full.Data.Length;
    }

    /// <summary>
    /// With a = weight clip(h_f - h_s, -1, 1) / elements: dh_f + a and dh_s - a; an absent gradient is 0.
    /// </summary>
    internal static (HostArray<T> Full, HostArray<T> Sparse) Add<T>(
        double weight, HostArray<T> full, HostArray<T> sparse, HostArray<T>? dFull, HostArray<T>? dSparse)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        HostArray<T> f = new(full.Shape);
        HostArray<T> s = new(full.Shape);
        dFull?.Data.CopyTo(f.Data, 0);
        dSparse?.Data.CopyTo(s.Data, 0);
        double c = weight / full.Data.Length;
        for (int n = 0; n < f.Data.Length; n++)
        {
            double d = double.CreateTruncating(full.Data[n]) - double.CreateTruncating(sparse.Data[n]);
            T a = T.CreateTruncating(c * Math.Clamp(d, -1, 1));
            f.Data[n] += a;
            s.Data[n] -= a;
        }

        return (f, s);
    }
}
