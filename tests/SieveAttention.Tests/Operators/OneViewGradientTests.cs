using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// Every gradient of every operator with one view, on the reference device, against central differences. Two step sizes have to agree
/// first: seeds with a value close to a kink of the operator (the edge of a support, a tile's bound) are passed over.
/// </summary>
internal sealed class OneViewGradientTests
{
    private const double Step = 1e-5;
    private const double Tolerance = 5e-7;
    private const int MostSeeds = 60;

    private static readonly OneViewCase s_plain = new("plain");

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 0.05, OutputScale = 1.3 };

    private static readonly OneViewCase[] s_cases =
    [
        s_plain with { Name = "grouped heads, two entries", Batch = 2, QueryHeads = 4, ParametersPerHead = true },
        s_plain with { Name = "norm, gain and gate", Gain = true, Gate = true, Epilogue = s_norm },
        s_plain with { Name = "full, scale", Mask = AttentionMask.Full, Scale = 0.8 },
        s_plain with
        {
            Name = "window, negative offset, gate", Keys = 8, Gate = true, Mask = new AttentionMask { Window = 3, QueryOffset = -1 },
        },
        s_plain with { Name = "ssmax", RowFactorKind = RowFactorKind.Ssmax, Mask = new AttentionMask { QueryOffset = 0 } },
        s_plain with { Name = "asentmax per head", RowFactorKind = RowFactorKind.Asentmax, ParametersPerHead = true },
        s_plain with { Name = "constant factor", RowFactorKind = RowFactorKind.Constant },
        s_plain with { Name = "factor of each row, linear bias", RowFactorKind = RowFactorKind.PerRow, Alibi = true },
    ];

    public static IEnumerable<TestCaseData> Cases()
    {
        foreach (OneViewSubject subject in OneViewSubjects.All)
        {
            foreach (OneViewCase test in s_cases)
            {
                yield return new TestCaseData(subject, subject.TakesAlibi ? test : test with { Alibi = false }).SetArgDisplayNames(
                    subject.ToString(), test.ToString());
            }
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void Gradients_agree_with_finite_differences(OneViewSubject subject, OneViewCase test)
    {
        for (int seed = 1; seed <= MostSeeds; seed++)
        {
            OneViewCase seeded = test with { Seed = seed };
            if (Differences(subject, seeded) is { } differences)
            {
                AssertGradients(subject, seeded, differences);
                return;
            }
        }

        Assert.Fail("Every seed has a value close to a kink; the case is no good.");
    }

    private static void AssertGradients(OneViewSubject subject, OneViewCase test, Dictionary<string, double[]> differences)
    {
        Dictionary<string, double[]> variables = Variables(subject, test);
        Dictionary<string, double[]> gradients = subject.Backward(AttentionDevice.Reference, test, variables);
        Assert.That(gradients.Keys, Is.EquivalentTo(differences.Keys), "every variable has a gradient");
        Assert.Multiple(() =>
        {
            foreach ((string name, double[] expected) in differences)
            {
                Deviation deviation = Deviation.Of(gradients[name], expected);
                Assert.That(
                    deviation.Max, Is.LessThanOrEqualTo(Tolerance * Math.Max(1, deviation.Scale)), $"gradient of {name}: {deviation}");
                Assert.That(expected, Has.Some.Not.Zero, $"{name} has no influence: the case would prove nothing");
            }
        });
    }

    /// <summary>Central differences of all variables; null where a kink is near.</summary>
    private static Dictionary<string, double[]>? Differences(OneViewSubject subject, OneViewCase test)
    {
        Dictionary<string, double[]> variables = Variables(subject, test);
        double[] dout = Values.Doubles(test.OutputGradient());
        double Loss() => Dot(Values.Doubles(subject.Forward(AttentionDevice.Reference, test, variables)), dout);
        Dictionary<string, double[]> differences = [];
        foreach ((string name, double[] values) in variables)
        {
            double[] difference = differences[name] = new double[values.Length];
            for (int i = 0; i < values.Length; i++)
            {
                // Alpha stays at most 2: one-sided there, with an error of the order of the step squared.
                bool atEnd = name == "alpha" && values[i] + Step > 2;
                difference[i] = atEnd ? Backward(values, i, Loss, Step) : Central(values, i, Loss, Step);
                double finer = atEnd ? Backward(values, i, Loss, Step / 4) : Central(values, i, Loss, Step / 4);
                if (Math.Abs(finer - difference[i]) > Tolerance / 5 * Math.Max(1, Math.Abs(finer)))
                {
                    return null;
                }
            }
        }

        return differences;
    }

    private static double Central(double[] values, int i, Func<double> loss, double step) =>
        (At(values, i, step, loss) - At(values, i, -step, loss)) / (2 * step);

    private static double Backward(double[] values, int i, Func<double> loss, double step) =>
        ((3 * At(values, i, 0, loss)) - (4 * At(values, i, -step, loss)) + At(values, i, -2 * step, loss)) / (2 * step);

    private static double At(double[] values, int i, double shift, Func<double> loss)
    {
        double value = values[i];
        values[i] = value + shift;
        double result = loss();
        values[i] = value;
        return result;
    }

    private static Dictionary<string, double[]> Variables(OneViewSubject subject, OneViewCase test)
    {
        Dictionary<string, double[]> variables = test.Variables();
        subject.Declare(test, variables);
        return variables;
    }

    private static double Dot(double[] x, double[] y)
    {
        double sum = 0;
        for (int i = 0; i < x.Length; i++)
        {
            sum += x[i] * y[i];
        }

        return sum;
    }
}
