using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>Gradients against central differences in float64.</summary>
internal static class CentralDifferences
{
    private const double Step = 1e-5;
    private const double Tolerance = 2e-7;

    /// <summary>Moves each variable in place, calls the loss before and after, and compares with the gradient.</summary>
    public static void AssertGradient(string name, Memory<double> variables, IReadOnlyList<double> gradient, Func<double> loss)
    {
        double[] differences = new double[variables.Length];
        for (int i = 0; i < variables.Length; i++)
        {
            double at = variables.Span[i];
            variables.Span[i] = at + Step;
            double after = loss();
            variables.Span[i] = at - Step;
            double before = loss();
            variables.Span[i] = at;
            differences[i] = (after - before) / (2 * Step);
        }

        // Relative to the largest gradient, but not below the size of the loss' own terms, which are of the order of 1.
        Deviation deviation = Deviation.Of([.. gradient], differences);
        Assert.That(deviation.Max, Is.LessThanOrEqualTo(Tolerance * Math.Max(1, deviation.Scale)), $"gradient of {name}: {deviation}");
    }
}
