using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>How far values are from the expected ones.</summary>
/// <param name="Max">Largest absolute difference; NaN where NaN stands in one place only.</param>
/// <param name="Rms">Root of the mean squared difference.</param>
/// <param name="Cosine">1 - cosine between both as vectors; 0 where both are 0.</param>
/// <param name="Scale">Largest expected magnitude.</param>
internal sealed record Deviation(double Max, double Rms, double Cosine, double Scale)
{
    /// <summary>Largest difference relative to the largest expected magnitude; absolute where nothing but 0 is expected.</summary>
    public double Relative => Scale > 0 ? Max / Scale : Max;

    public static Deviation Of(ReadOnlySpan<double> actual, ReadOnlySpan<double> expected)
    {
        Assert.That(actual.Length, Is.EqualTo(expected.Length), "number of values");
        double max = 0;
        double squares = 0;
        double product = 0;
        double actualSquares = 0;
        double expectedSquares = 0;
        double scale = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            double difference = actual[i].Equals(expected[i]) ? 0 : Math.Abs(actual[i] - expected[i]);
            // Math.Max keeps NaN, so that one NaN too many fails every comparison with a tolerance.
            max = Math.Max(max, difference);
            squares += difference * difference;
            product += actual[i] * expected[i];
            actualSquares += actual[i] * actual[i];
            expectedSquares += expected[i] * expected[i];
            scale = Math.Max(scale, Math.Abs(expected[i]));
        }

        double norms = Math.Sqrt(actualSquares * expectedSquares);
        return new Deviation(max, Math.Sqrt(squares / actual.Length), norms > 0 ? 1 - (product / norms) : 0, scale);
    }

    public override string ToString() => FormattableString.Invariant($"max {Max:E2}, rms {Rms:E2}, 1 - cosine {Cosine:E2}, of {Scale:E2}");
}
