namespace SieveAttention.Reference;

/// <summary>
/// alpha-ReLU (arXiv 2111.06832): w_j = relu((alpha - 1) s_j - tau)^(1/(alpha-1)) with a constant tau, without normalization;
/// ds_j = w_j^(2-alpha) dw_j, dtau = -sum w^(2-alpha) dw / (alpha - 1).
/// </summary>
internal sealed class AlphaReluRow : RowFunction
{
    private readonly double _alpha;
    private readonly double[] _tau;

    /// <param name="problem">The problem.</param>
    /// <param name="alpha">In (1, 2].</param>
    /// <param name="tau">One for each query head.</param>
    internal AlphaReluRow(in AttentionProblem problem, double alpha, double[] tau)
    {
        _alpha = alpha;
        _tau = tau;
        TauGradient = new double[problem.QueryHeads];
    }

    /// <summary>One for each query head.</summary>
    internal double[] TauGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        double tau = _tau[place.Head];
        for (int j = 0; j < s.Length; j++)
        {
            double y = ((_alpha - 1) * s[j]) - tau;
            w[j] = y <= 0 ? 0 : Math.Pow(y, 1 / (_alpha - 1));
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        for (int j = 0; j < s.Length; j++)
        {
            ds[j] = w[j] == 0 ? 0 : Math.Pow(w[j], 2 - _alpha) * dw[j];
            TauGradient[place.Head] -= ds[j] / (_alpha - 1);
        }
    }
}
