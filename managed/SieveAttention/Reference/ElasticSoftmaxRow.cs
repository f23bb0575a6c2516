namespace SieveAttention.Reference;

/// <summary>
/// Elastic-Softmax (arXiv 2601.00919): p = softmax(s + b), w_j = relu(p_j + tau / n), n = visible keys;
/// ds_j = p_j (1[w_j > 0] dw_j - delta), delta = sum p 1[w > 0] dw, dtau = sum 1[w > 0] dw / n. The gradient is not zero where the weight
/// is, because of the denominator of the softmax. b depends on the distance d = i + offset - j only, 0 beyond the learned ones:
/// db[d] = sum ds over the pairs at that distance.
/// </summary>
internal sealed class ElasticSoftmaxRow : RowFunction
{
    private readonly AttentionProblem _problem;
    private readonly double[] _tau;
    private readonly HostArray<double>? _bias;
    private readonly double[] _p;

    /// <param name="problem">The problem.</param>
    /// <param name="tau">One for each query head.</param>
    /// <param name="bias">b of the distances from 0, [1, query heads, 1, distances]; null = 0.</param>
    internal ElasticSoftmaxRow(in AttentionProblem problem, double[] tau, HostArray<double>? bias = null)
    {
        _problem = problem;
        _tau = tau;
        _bias = bias;
        _p = new double[problem.Keys];
        TauGradient = new double[problem.QueryHeads];
        BiasGradient = bias is null ? null : new HostArray<double>(bias.Shape);
    }

    /// <summary>One for each query head.</summary>
    internal double[] TauGradient { get; }

    /// <summary>Of the shape of the bias; null without one.</summary>
    internal HostArray<double>? BiasGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        Probabilities(place, s, w);
        double shift = _tau[place.Head] / s.Length;
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = w[j] + shift <= 0 ? 0 : w[j] + shift;
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        Probabilities(place, s, _p);
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
            if (BiasGradient is not null && Distance(place, j) is var d && d >= 0 && d < BiasGradient.Shape.Channels)
            {
                BiasGradient.Row(0, place.Head, 0)[(int)d] += ds[j];
            }
        }

        TauGradient[place.Head] += sum / s.Length;
    }

    private void Probabilities(in RowPlace place, ReadOnlySpan<double> s, Span<double> p)
    {
        s.CopyTo(p);
        for (int j = 0; j < s.Length && _bias is not null; j++)
        {
            long d = Distance(place, j);
            p[j] += d >= 0 && d < _bias.Shape.Channels ? _bias.Row(0, place.Head, 0)[(int)d] : 0;
        }

        SoftmaxRow.Weigh(p[..s.Length], p[..s.Length]);
    }

    /// <summary>i + offset - j of the row and its n-th visible key.</summary>
    private long Distance(in RowPlace place, int n) => place.Row + _problem.QueryOffset - (place.Visible.First + n);
}
