namespace SieveAttention.Reference;

/// <summary>
/// What every operator does to an output row x of Dv channels, and its gradient:
/// <code>
/// r = (mean_k x_k^2 + eps)^(-1/2)     z = c g o x r     with norm = rms, gain g (ones when absent) and output scale c
///                                     z = c x           without a norm
/// y = sigmoid(gate) z                 y = z             without a gate
/// </code>
/// A row that is exactly 0 stays 0 and has finite gradients, also for eps = 0, where r is taken as 0.
/// </summary>
internal static class Epilogue
{
    /// <summary>Computes y from x; both may be the same memory.</summary>
    internal static void Forward(
        EpilogueParameters parameters, ReadOnlySpan<double> gain, double? gate, ReadOnlySpan<double> x, Span<double> y)
    {
        double factor = parameters.OutputScale * Sigmoid(gate);
        if (parameters.Norm == OutputNorm.Rms)
        {
            factor *= InverseRms(x, parameters.NormEpsilon);
        }

        for (int k = 0; k < x.Length; k++)
        {
            y[k] = factor * Gain(gain, k) * x[k];
        }
    }

    /// <summary>Computes dx from dy, adds to dgain (unless empty) and returns dgate.</summary>
    internal static double Backward(
        EpilogueParameters parameters,
        ReadOnlySpan<double> gain,
        double? gate,
        ReadOnlySpan<double> x,
        ReadOnlySpan<double> dy,
        Span<double> dx,
        Span<double> dgain)
    {
        double c = parameters.OutputScale;
        double sigmoid = Sigmoid(gate);
        bool rms = parameters.Norm == OutputNorm.Rms;
        double r = rms ? InverseRms(x, parameters.NormEpsilon) : 1;

        // dz = sigmoid dy,  h = c g o dz,  dgate = sigmoid (1 - sigmoid) dy . z
        double dyz = 0;
        double xh = 0;
        for (int k = 0; k < x.Length; k++)
        {
            double g = Gain(gain, k);
            dyz += dy[k] * c * g * x[k] * r;
            dx[k] = c * g * sigmoid * dy[k];
            xh += x[k] * dx[k];
            if (!dgain.IsEmpty)
            {
                dgain[k] += c * sigmoid * dy[k] * x[k] * r;
            }
        }

        if (rms)
        {
            // dx = r h - x r^3 (x.h) / Dv
            double projection = r * r * r * xh / x.Length;
            for (int k = 0; k < x.Length; k++)
            {
                dx[k] = (r * dx[k]) - (x[k] * projection);
            }
        }

        return gate is null ? 0 : sigmoid * (1 - sigmoid) * dyz;
    }

    private static double InverseRms(ReadOnlySpan<double> x, double epsilon)
    {
        double sum = 0;
        for (int k = 0; k < x.Length; k++)
        {
            sum += x[k] * x[k];
        }

        double square = (sum / x.Length) + epsilon;
        return square == 0 ? 0 : 1 / Math.Sqrt(square);
    }

    private static double Gain(ReadOnlySpan<double> gain, int k) => gain.IsEmpty ? 1 : gain[k];

    private static double Sigmoid(double? logit) => logit is { } l ? 1 / (1 + Math.Exp(-l)) : 1;
}
