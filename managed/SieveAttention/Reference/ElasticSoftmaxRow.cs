namespace SieveAttention.Reference;

/// <summary>
/// Elastic-Softmax (arXiv 2601.00919): p = softmax(s), w_j = relu(p_j + tau / n), n = visible keys;
/// ds_j = p_j (1[w_j > 0] dw_j - delta), delta = sum p 1[w > 0] dw, dtau = sum 1[w > 0] dw / n. The gradient is not zero where the weight
/// is, because of the denominator of the softmax.
/// </summary>
internal sealed class ElasticSoftmaxRow : RowFunction
{
    private readonly double[] _tau;
    private readonly double[] _p;

    /// <param name="problem">The problem.</param>
    /// <param name="tau">One for each query head.</param>
    internal ElasticSoftmaxRow(in AttentionProblem problem, double[] tau)
    {
        _tau = tau;
        _p = new double[problem.Keys];
        TauGradient = new double[problem.QueryHeads];
    }

    /// <summary>One for each query head.</summary>
    internal double[] TauGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        SoftmaxRow.Weigh(s, w);
        double shift = _tau[place.Head] / s.Length;
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = w[j] + shift <= 0 ? 0 : w[j] + shift;
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        SoftmaxRow.Weigh(s, _p);
        double delta = 0;
        double sum = 0;
        for (int j = 0; j < s.Length; j++)
        {
            if (w[j] != 0)
            {
                delta += _p[j] * dw[j];
                sum += dw[j];
            }
        }

        for (int j = 0; j < s.Length; j++)
        {
            ds[j] = _p[j] * ((w[j] != 0 ? dw[j] : 0) - delta);
        }

        TauGradient[place.Head] += sum / s.Length;
    }
}
