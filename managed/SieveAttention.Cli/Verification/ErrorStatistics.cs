namespace SieveAttention.Cli.Verification;

/// <summary>How far computed values are from exact ones.</summary>
/// <param name="MaxAbsolute">Largest |computed - exact|; infinite where one is NaN or infinite and the other is not the same.</param>
/// <param name="Rms">Root of the mean square of computed - exact.</param>
/// <param name="Relative">MaxAbsolute / max|exact|; 0 / 0 counts as 0.</param>
/// <param name="CosineDistance">1 - cosine of the angle between both as vectors; 0 between two zero vectors.</param>
internal sealed record ErrorStatistics(double MaxAbsolute, double Rms, double Relative, double CosineDistance)
{
    /// <summary>Largest magnitude of finite values.</summary>
    public static double Largest(ReadOnlySpan<double> values)
    {
        double largest = 0;
        foreach (double value in values)
        {
            largest = double.IsFinite(value) ? Math.Max(largest, Math.Abs(value)) : largest;
        }
        return largest;
    }

    /// <summary>Compares values in the same order. Equal infinities, and NaN in both, are no error.</summary>
    public static ErrorStatistics Compare(ReadOnlySpan<double> computed, ReadOnlySpan<double> exact)
    {
        if (computed.Length != exact.Length)
        {
            throw new ArgumentException($"computed: found {computed.Length} values; allowed: {exact.Length}");
        }
        double largest = 0;
        double squares = 0;
        double dot = 0;
        double computedSquares = 0;
        double exactSquares = 0;
        for (int i = 0; i < exact.Length; i++)
        {
            if (computed[i].Equals(exact[i]) && !double.IsFinite(exact[i]))
            {
                continue;
            }
            double error = computed[i] - exact[i];
            error = double.IsFinite(error) ? error : double.PositiveInfinity;
            largest = Math.Max(largest, Math.Abs(error));
            squares += error * error;
            dot += computed[i] * exact[i];
            computedSquares += computed[i] * computed[i];
            exactSquares += exact[i] * exact[i];
        }
        double scale = Largest(exact);
        return new ErrorStatistics(
            largest,
            Math.Sqrt(squares / Math.Max(exact.Length, 1)),
            largest == 0 ? 0 : largest / scale,
            Distance(dot, computedSquares, exactSquares));
    }

    private static double Distance(double dot, double computedSquares, double exactSquares)
    {
        if (computedSquares == 0 && exactSquares == 0)
        {
            return 0;
        }
        // Rounding of three sums can leave a little less than 0.
        return Math.Max(0, 1 - (dot / (Math.Sqrt(computedSquares) * Math.Sqrt(exactSquares))));
    }
}
