using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Sigmoid attention (arXiv 2409.04431): w_j = sigmoid(s_j + b), b = -ln n (n = visible keys) unless given;
/// ds_j = w_j (1 - w_j) dw_j, db = sum ds.
/// </summary>
/// <param name="problem">The problem.</param>
/// <param name="bias">b, one for each query head; null = -ln n of each row.</param>
internal sealed unsafe class SigmoidRow(in AttentionProblem problem, double[]? bias) : RowFunction
{
    private readonly RowSums _bias = new(problem);

    /// <summary>db, one for each query head.</summary>
    internal double[] BiasGradient => _bias.PerHead();

    internal override bool WeightsSuffice => true;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        TVector minusB = TLanes.Broadcast((float)(bias is null ? Math.Log(count) : -bias[place.Head]));
        TVector one = TLanes.Broadcast(1);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector power = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(minusB, TLanes.Load(row + c)));
            TLanes.Store(row + c, TLanes.Divide(one, TLanes.Add(one, power)));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        TVector one = TLanes.Broadcast(1);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector weight = TLanes.Load(weights + c);
            TVector slope = TLanes.Multiply(weight, TLanes.Subtract(one, weight));
            TLanes.Store(gradients + c, TLanes.WhereNotAtMost(weight, default, TLanes.Multiply(slope, TLanes.Load(gradients + c))));
        }

        _bias[place] = RowLanes<TLanes, TVector>.Sum(gradients, count);
    }
}
