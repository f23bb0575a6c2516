using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Elastic-Softmax (arXiv 2601.00919): p = softmax(s + b), w_j = relu(p_j + tau / n), n = visible keys;
/// ds_j = p_j (1[w_j > 0] dw_j - delta), delta = sum p 1[w > 0] dw, dtau = sum 1[w > 0] dw / n. The gradient is not zero where the weight
/// is, because of the denominator of the softmax. b depends on the distance of query and key; db = sum ds, see <see cref="DistanceBias"/>.
/// </summary>
/// <param name="problem">The problem.</param>
/// <param name="tau">One for each query head.</param>
/// <param name="bias">b; null = 0.</param>
internal sealed unsafe class ElasticSoftmaxRow(in AttentionProblem problem, double[] tau, DistanceBias? bias = null) : RowFunction
{
    private readonly RowSums _tau = new(problem);

    /// <summary>One for each query head.</summary>
    internal double[] TauGradient => _tau.PerHead();

    /// <summary>Of the shape of the bias; null without one.</summary>
    internal HostArray<float>? BiasGradient => bias?.Gradient();

    internal override bool WeightsSuffice => false;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        bias?.AddTo(place, row);
        RowLanes<TLanes, TVector>.Softmax(row, count);
        TVector shift = TLanes.Broadcast((float)(tau[place.Head] / count));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector weight = TLanes.Add(TLanes.Load(row + c), shift);
            TLanes.Store(row + c, TLanes.WhereNotAtMost(weight, default, weight));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        bias?.AddTo(place, scores);
        RowLanes<TLanes, TVector>.Softmax(scores, count);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(gradients + c, TLanes.WhereNotAtMost(TLanes.Load(weights + c), default, TLanes.Load(gradients + c)));
        }

        _tau[place] = RowLanes<TLanes, TVector>.Sum(gradients, count) / count;
        TVector delta = TLanes.Broadcast((float)RowLanes<TLanes, TVector>.Dot(scores, gradients, count));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(gradients + c, TLanes.Multiply(TLanes.Load(scores + c), TLanes.Subtract(TLanes.Load(gradients + c), delta)));
        }

        bias?.Differentiate(place, gradients);
    }
}
