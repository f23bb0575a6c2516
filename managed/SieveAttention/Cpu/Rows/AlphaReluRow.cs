using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// alpha-ReLU (arXiv 2111.06832): w_j = relu((alpha - 1) s_j - tau)^(1/(alpha-1)) with a constant tau, without normalization;
/// ds_j = w_j^(2-alpha) dw_j, dtau = -sum w^(2-alpha) dw / (alpha - 1).
/// </summary>
/// <param name="problem">The problem.</param>
/// <param name="alpha">In (1, 2].</param>
/// <param name="tau">One for each query head.</param>
internal sealed unsafe class AlphaReluRow(in AttentionProblem problem, double alpha, double[] tau) : RowFunction
{
    private readonly RowSums _tau = new(problem);
    private readonly EntmaxPower _power = new(alpha);

    /// <summary>One for each query head.</summary>
    internal double[] TauGradient => _tau.PerHead();

    internal override bool WeightsSuffice => true;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        EntmaxPower power = _power;
        TVector factor = TLanes.Broadcast((float)(alpha - 1));
        TVector minusTau = TLanes.Broadcast((float)-tau[place.Head]);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector y = TLanes.MultiplyAdd(factor, TLanes.Load(row + c), minusTau);
            TLanes.Store(row + c, TLanes.WhereNotAtMost(y, default, power.Weight<TLanes, TVector>(y)));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        EntmaxPower power = _power;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector weight = TLanes.Load(weights + c);
            TVector ds = TLanes.Multiply(power.Slope<TLanes, TVector>(weight), TLanes.Load(gradients + c));
            TLanes.Store(gradients + c, TLanes.WhereNotAtMost(weight, default, ds));
        }

        _tau[place] = -RowLanes<TLanes, TVector>.Sum(gradients, count) / (alpha - 1);
    }
}
