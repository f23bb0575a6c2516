namespace SieveAttention.Reference;

/// <summary>
/// Sigmoid attention (arXiv 2409.04431): w_j = sigmoid(s_j + b), b = -ln n (n = visible keys) unless given;
/// ds_j = w_j (1 - w_j) dw_j, db = sum ds.
/// </summary>
internal sealed class SigmoidRow : RowFunction
{
    private readonly double[]? _bias;

    /// <param name="problem">The problem.</param>
    /// <param name="bias">b, one for each query head; null = -ln n of each row.</param>
    internal SigmoidRow(in AttentionProblem problem, double[]? bias)
    {
        _bias = bias;
        BiasGradient = new double[problem.QueryHeads];
    }

    /// <summary>One for each query head.</summary>
    internal double[] BiasGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        double b = _bias is null ? -Math.Log(s.Length) : _bias[place.Head];
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = 1 / (1 + Math.Exp(-(s[j] + b)));
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        for (int j = 0; j < s.Length; j++)
        {
            ds[j] = w[j] * (1 - w[j]) * dw[j];
            BiasGradient[place.Head] += ds[j];
        }
    }
}
