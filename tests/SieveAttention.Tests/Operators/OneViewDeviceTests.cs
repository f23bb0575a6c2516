using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Operators with one view through their public classes: the Cpu against the reference, and what every device promises.</summary>
internal sealed class OneViewDeviceTests
{
    public static IEnumerable<OneViewSubject> All => OneViewSubjects.All;

    [TestCaseSource(nameof(All))]
    public void The_Cpu_agrees_with_the_reference_on_random_problems(OneViewSubject subject) =>
        Properties.ForAllSeeds(seed => AssertCpu(subject, OneViewCase.Random(seed)));

    [TestCaseSource(nameof(All))]
    public void The_Cpu_agrees_with_the_reference_on_several_tiles(OneViewSubject subject)
    {
        OneViewCase test = new("several tiles") { Queries = 131, Keys = 197, HeadDim = 64, ValueDim = 40, KeyHeads = 1, Gate = true };
        AssertCpu(subject, test);
        AttentionMask window = new() { Window = 70 };
        AssertCpu(subject, test with { RowFactorKind = RowFactorKind.Ssmax, Mask = window, ParametersPerHead = true });
        AssertCpu(subject, test with { QueryHeads = 8, HeadDim = 128, Queries = 20, Alibi = true, Mask = AttentionMask.Full });
    }

    [TestCaseSource(nameof(All))]
    public void A_row_without_a_visible_key_gives_zero_and_takes_no_gradient(OneViewSubject subject)
    {
        OneViewCase test = new("empty rows") { Queries = 6, Keys = 4, Mask = new AttentionMask { QueryOffset = -2 } };
        Dictionary<string, double[]> variables = Variables(subject, test);
        double[] output = Values.Doubles(subject.Forward(AttentionDevice.Reference, test, variables));
        double[] dq = subject.Backward(AttentionDevice.Reference, test, variables)["q"];
        Assert.That(output.Take(2 * test.ValueDim), Has.All.Zero);
        Assert.That(dq.Take(2 * test.HeadDim), Has.All.Zero);
        Assert.That(output.Skip(2 * test.ValueDim).Take(test.ValueDim), Has.Some.Not.Zero);
    }

    [TestCaseSource(nameof(All))]
    public void Values_that_are_not_numbers_stay_with_the_rows_that_see_them(OneViewSubject subject)
    {
        OneViewCase test = new("not a number")
        {
            QueryHeads = 1, KeyHeads = 1, Queries = 6, Keys = 6, Mask = new AttentionMask { Window = 2 },
        };
        Dictionary<string, double[]> variables = Variables(subject, test);
        double[] expected = Values.Doubles(subject.Forward(AttentionDevice.Reference, test, variables));
        variables["k"][3 * test.HeadDim] = double.NaN;
        variables["v"][3 * test.ValueDim] = double.NaN;
        double[] actual = Values.Doubles(subject.Forward(AttentionDevice.Reference, test, variables));
        for (int i = 0; i < actual.Length; i++)
        {
            int row = i / test.ValueDim;
            if (row is not (3 or 4))
            {
                // Tiles of a support basis do not change by a row that has no norm, but may by its missing norm.
                Assert.That(actual[i], subject is SupportBasisSubject ? Is.Not.NaN : Is.EqualTo(expected[i]), $"row {row}");
            }
        }

        Assert.That(actual.Skip(3 * test.ValueDim).Take(2 * test.ValueDim), Has.Some.NaN);
    }

    [Test]
    public void Values_of_weight_zero_are_not_read()
    {
        OneViewCase test = new("zero weights") { QueryHeads = 1, KeyHeads = 1, Queries = 1, Keys = 3, HeadDim = 1, ValueDim = 1 };
        Dictionary<string, double[]> variables = test.Variables();
        variables["q"][0] = 1;
        variables["alpha"] = [2];
        new double[] { 0, 5, 0 }.CopyTo(variables["k"], 0);
        new[] { double.NaN, 0.5, double.PositiveInfinity }.CopyTo(variables["v"], 0);
        Assert.That(Values.Doubles(new EntmaxSubject(2).Forward(AttentionDevice.Reference, test, variables)), Is.EqualTo([0.5]));
    }

    [Test]
    public void A_linear_bias_with_entmax_is_an_exact_window()
    {
        // Scores are 0 but for the bias -m (i - j): only keys nearer than about 1 / m have a weight.
        OneViewCase test = new("window") { QueryHeads = 2, Queries = 40, Keys = 40, Spread = 0, Alibi = true };
        EntmaxOptions options = new() { Alpha = [2], Scores = test.Scores(test.Variables()) };
        EntmaxAttention attention = new(AttentionDevice.Reference, options);
        using EntmaxResult result = attention.Forward(test.Inputs(test.Variables()));
        int[] support = result.Support.AsSpan<int>().ToArray();
        Assert.That(support[39], Is.EqualTo(40), "head 0 has slope 0");
        Assert.That(support[79], Is.EqualTo(3), "head 1 has slope 1/4: weights 7/12, 4/12 and 1/12");
    }

    [Test]
    public void Results_are_rounded_once_into_the_callers_strided_tensors(
        [Values(TensorType.Float64, TensorType.Float32, TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        OneViewCase test = new("strided") { Batch = 2 };
        AttentionInputs inputs = test.Inputs(test.Variables());
        EntmaxAttention attention = new(AttentionDevice.Reference);
        using EntmaxResult expected = attention.Forward(inputs);
        using AttentionTensor large = AttentionTensor.Allocate(type, new TensorShape(2, 5, 2, 4));
        using EntmaxResult into = new(
            large.Permute(0, 2, 1, 3).Slice(3, 0, 3),
            AttentionTensor.Allocate(TensorType.Float32, test.RowShape),
            AttentionTensor.Allocate(TensorType.Int32, test.RowShape));
        attention.Forward(inputs, into);
        Assert.That(
            Values.Doubles(into.Output), Is.EqualTo(Array.ConvertAll(Values.Doubles(expected.Output), value => Values.Round(value, type))));
        Assert.That(into.Support.AsSpan<int>().ToArray(), Is.EqualTo(expected.Support.AsSpan<int>().ToArray()));
        using AttentionTensor gap = large.Slice(3, 3, 1);
        Assert.That(Values.Doubles(gap), Has.All.Zero);
    }

    [TestCase("reference", TensorType.Float64)]
    [TestCase("cpu", TensorType.Float32)]
    public void Results_have_the_precision_of_the_device(string device, TensorType type)
    {
        OneViewCase test = new("precision");
        using SoftmaxResult result = new SoftmaxAttention(AttentionDevice.Parse(device)).Forward(test.Inputs(test.Variables()));
        Assert.That((result.Output.Type, result.LogSumExp.Type), Is.EqualTo((type, type)));
        Assert.That(result.LogSumExp.Shape, Is.EqualTo(test.RowShape));
    }

    private static void AssertCpu(OneViewSubject subject, OneViewCase test)
    {
        test = subject.TakesAlibi ? test : test with { Alibi = false };
        Dictionary<string, double[]> variables = Variables(subject, test);
        double[] expected = Values.Doubles(subject.Forward(AttentionDevice.Reference, test, variables));
        double[] actual = Values.Doubles(subject.Forward(AttentionDevice.Cpu, test, variables));
        AssertClose("out", actual, expected, 2e-4);
        Dictionary<string, double[]> expectedGradients = subject.Backward(AttentionDevice.Reference, test, variables);
        Dictionary<string, double[]> gradients = subject.Backward(AttentionDevice.Cpu, test, variables);
        Assert.That(gradients.Keys, Is.EquivalentTo(expectedGradients.Keys));
        foreach ((string name, double[] gradient) in expectedGradients)
        {
            AssertClose(name, gradients[name], gradient, 1e-3);
        }
    }

    private static Dictionary<string, double[]> Variables(OneViewSubject subject, OneViewCase test)
    {
        Dictionary<string, double[]> variables = test.Variables();
        subject.Declare(test, variables);
        return variables;
    }

    /// <summary>Relative to the largest value, and to 1 where all are small: sums of a few terms of that size cancel.</summary>
    private static void AssertClose(string name, double[] actual, double[] expected, double tolerance)
    {
        Deviation deviation = Deviation.Of(actual, expected);
        Assert.That(deviation.Max, Is.LessThanOrEqualTo(tolerance * Math.Max(1, deviation.Scale)), $"{name}: {deviation}");
    }
}
