using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Softpick (arXiv 2504.20966): w_j = relu(e^s_j - 1) / D, D = sum_j |e^s_j - 1| + eps;
/// ds_j = e^s_j / D (1[s_j > 0] dw_j - sign(s_j) sum w dw). Weights need not sum to 1.
/// </summary>
internal sealed unsafe class SoftpickRow(double epsilon) : RowFunction
{
    internal override bool WeightsSuffice => false;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        (float level, float inverse) = Denominator<TLanes, TVector>(row, count);
        TVector m = TLanes.Broadcast(level);
        TVector floor = TLanes.Broadcast(MathF.Exp(-level));
        TVector factor = TLanes.Broadcast(inverse);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector score = TLanes.Load(row + c);
            TVector weight = TLanes.Multiply(Excess<TLanes, TVector>(score, m, floor), factor);
            TLanes.Store(row + c, TLanes.WhereNotAtMost(score, default, weight));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        (float level, float inverse) = Denominator<TLanes, TVector>(scores, count);
        TVector m = TLanes.Broadcast(level);
        TVector factor = TLanes.Broadcast(inverse);
        // A weight of 0 contributes nothing, whatever its gradient.
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(gradients + c, TLanes.WhereNotAtMost(TLanes.Load(weights + c), default, TLanes.Load(gradients + c)));
        }

        TVector delta = TLanes.Broadcast((float)RowLanes<TLanes, TVector>.Dot(weights, gradients, count));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector score = TLanes.Load(scores + c);
            TVector slope = TLanes.Multiply(LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(score, m)), factor);
            TVector above = TLanes.WhereNotAtMost(score, default, TLanes.Subtract(TLanes.Load(gradients + c), delta));
            TVector below = TLanes.WhereNotAtMost(default, score, delta);
            TLanes.Store(gradients + c, TLanes.Multiply(slope, TLanes.Add(above, below)));
        }
    }

    /// <summary>
    /// m = max(largest score, 0), taken out of all exponentials so that none overflows, and 1 / (D e^-m). What follows the row becomes 0,
    /// where e^s - 1 is 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private (float Level, float Inverse) Denominator<TLanes, TVector>(float* row, int count)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        float level = MathF.Max(RowLanes<TLanes, TVector>.Largest(row, count), 0);
        for (int c = count; c % TLanes.Count != 0; c++)
        {
            row[c] = 0;
        }

        TVector m = TLanes.Broadcast(level);
        TVector floor = TLanes.Broadcast(MathF.Exp(-level));
        double total = epsilon * Math.Exp(-level);
        for (int first = 0; first < count; first += RowLanes<TLanes, TVector>.Block)
        {
            int end = Math.Min(first + RowLanes<TLanes, TVector>.Block, count);
            TVector sum = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                TVector excess = Excess<TLanes, TVector>(TLanes.Load(row + c), m, floor);
                sum = TLanes.Add(sum, TLanes.Max(excess, TLanes.Subtract(default, excess)));
            }

            total += TLanes.Sum(sum);
        }

        return (level, (float)(1 / total));
    }

    /// <summary>
    /// (e^s - 1) e^-m. Within 1/2 of 0 the Taylor polynomial of e^s - 1, which keeps the digits that the difference would lose.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Excess<TLanes, TVector>(TVector score, TVector m, TVector floor)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector x = TLanes.Clamp(score, -0.5f, 0.5f);
        TVector p = TLanes.Broadcast(1f / 40320);
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1f / 5040));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1f / 720));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1f / 120));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1f / 24));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1f / 6));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(0.5f));
        p = TLanes.MultiplyAdd(p, x, TLanes.Broadcast(1));
        TVector near = TLanes.Multiply(TLanes.Multiply(p, x), floor);
        TVector far = TLanes.Subtract(LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(score, m)), floor);
        return TLanes.Add(near, TLanes.WhereNotAtMost(TLanes.Multiply(score, score), TLanes.Broadcast(0.25f), TLanes.Subtract(far, near)));
    }
}
