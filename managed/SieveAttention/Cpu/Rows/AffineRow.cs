using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Affine-scaled softmax (arXiv 2602.23057): p = softmax(s), w_j = a p_j + b with a and b of each row;
/// ds_j = a p_j (dw_j - sum p dw), da = sum p dw, db = sum dw.
/// </summary>
/// <param name="problem">The problem.</param>
/// <param name="a">[batch, query heads, queries, 1].</param>
/// <param name="b">The same; null = 0.</param>
internal sealed unsafe class AffineRow(in AttentionProblem problem, HostArray<float> a, HostArray<float>? b) : RowFunction
{
    /// <summary>da; 0 for a row without a visible key.</summary>
    internal HostArray<float> FactorGradient { get; } = new(problem.RowShape);

    /// <summary>db; null without b.</summary>
    internal HostArray<float>? ShiftGradient { get; } = b is null ? null : new HostArray<float>(problem.RowShape);

    internal override bool WeightsSuffice => false;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        RowLanes<TLanes, TVector>.Softmax(row, count);
        TVector factor = TLanes.Broadcast(Of(a, place));
        TVector shift = TLanes.Broadcast(b is null ? 0 : Of(b, place));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(row + c, TLanes.MultiplyAdd(factor, TLanes.Load(row + c), shift));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        RowLanes<TLanes, TVector>.Softmax(scores, count);
        double inner = RowLanes<TLanes, TVector>.Dot(scores, gradients, count);
        FactorGradient.Row(place.Batch, place.Head, place.Row)[0] = (float)inner;
        if (ShiftGradient is not null)
        {
            ShiftGradient.Row(place.Batch, place.Head, place.Row)[0] = (float)RowLanes<TLanes, TVector>.Sum(gradients, count);
        }

        TVector delta = TLanes.Broadcast((float)inner);
        TVector factor = TLanes.Broadcast(Of(a, place));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector slope = TLanes.Multiply(factor, TLanes.Load(scores + c));
            TLanes.Store(gradients + c, TLanes.Multiply(slope, TLanes.Subtract(TLanes.Load(gradients + c), delta)));
        }
    }

    private static float Of(HostArray<float> values, in RowPlace place) => values.Row(place.Batch, place.Head, place.Row)[0];
}
