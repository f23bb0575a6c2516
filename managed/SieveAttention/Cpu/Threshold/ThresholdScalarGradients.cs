namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Gradients that sum over rows and heads: beta, kappa, lambda and the gain of the norm. Each query tile writes its share, in double, to
/// a place of its own, and the shares are added in the order of the tiles: the sums do not depend on the threads.
/// </summary>
internal sealed class ThresholdScalarGradients(ThresholdCall call)
{
    private readonly int _gains = call.Epilogue.HasNormGain ? call.Problem.ValueDim : 0;
    private readonly double[] _beta = new double[call.Schedule.Count];
    private readonly double[] _kappa = new double[call.Schedule.Count];
    private readonly double[] _lambda = new double[call.Schedule.Count];
    private readonly double[] _gain = new double[call.Epilogue.HasNormGain ? call.Schedule.Count * call.Problem.ValueDim : 0];

    /// <summary>Share of a query tile in the gradient of the gain, to be added to; empty without a gain.</summary>
    internal Span<double> NormGain(long tile) => _gain.AsSpan((int)tile * _gains, _gains);

    internal void Set(long tile, double beta, double kappa, double lambda) =>
        (_beta[tile], _kappa[tile], _lambda[tile]) = (beta, kappa, lambda);

    internal double[] Beta() => PerHead(_beta);

    internal double[] Lambda() => PerHead(_lambda);

    internal double Kappa() => _kappa.Sum();

    internal float[]? NormGain()
    {
        if (_gains == 0)
        {
            return null;
        }

        double[] sums = new double[_gains];
        for (int i = 0; i < _gain.Length; i++)
        {
            sums[i % _gains] += _gain[i];
        }

        return Array.ConvertAll(sums, static sum => (float)sum);
    }

    private double[] PerHead(double[] shares)
    {
        double[] sums = new double[call.Problem.QueryHeads];
        for (long i = 0; i < shares.Length; i++)
        {
            sums[i / call.Schedule.TilesPerHead % sums.Length] += shares[i];
        }

        return sums;
    }
}
