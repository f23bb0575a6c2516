namespace SieveAttention.Tests.Support;

/// <summary>
/// How far the gradient of a parameter of a row factor may be off. It is a sum over all rows of terms that cancel: the largest of the cases here
/// adds 300 terms of together 900 to a sum of 40. What is left of the rows' errors after that is chance, for the plain evaluation as for a
/// kernel: over twelve seeds of that case the plain error was between 0.01 and 3.9. Three times one such draw would be a bound of
/// nothing; what is taken instead is the size that the error of the sum has to be expected to have from those of the rows, the root of the sum
/// of their squares (1.9 there). The rows themselves are judged one by one where the caller gives the factors.
/// </summary>
internal static class RowFactorErrors
{
    /// <summary>The expected error of each parameter, by the name of its gradient; nothing where the factor has no parameters.</summary>
    /// <param name="factor">The factor.</param>
    /// <param name="problem">Of the rows.</param>
    /// <param name="plain">Gradient of each row's factor in a plain evaluation.</param>
    /// <param name="exact">The same in float64.</param>
    public static Dictionary<string, double[]> Of(
        RowFactor factor, in AttentionProblem problem, HostArray<float> plain, HostArray<double> exact)
    {
        double[] values = new double[factor.Values.Count];
        double[] exponents = new double[factor.Exponents.Count];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    double error = plain.Row(b, h, i)[0] - exact.Row(b, h, i)[0];
                    values[values.Length == 1 ? 0 : h] += Square(error * factor.ValueSlope(problem, h, i));
                    if (exponents.Length > 0)
                    {
                        exponents[exponents.Length == 1 ? 0 : h] += Square(error * factor.ExponentSlope(problem, h, i));
                    }
                }
            }
        }

        Dictionary<string, double[]> errors = new() { ["row_values"] = Array.ConvertAll(values, Math.Sqrt) };
        if (exponents.Length > 0)
        {
            errors["row_exponents"] = Array.ConvertAll(exponents, Math.Sqrt);
        }

        return errors;
    }

    private static double Square(double x) => x * x;
}
