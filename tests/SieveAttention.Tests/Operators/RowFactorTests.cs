using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>The factors and biases of scores, against their formulas and through softmax attention.</summary>
internal sealed class RowFactorTests
{
    private static readonly OneViewCase s_case = new("row factors") { QueryHeads = 2, Queries = 6, Keys = 8 };

    [Test]
    public void Ssmax_multiplies_by_the_logarithm_of_the_visible_keys()
    {
        HostArray<double> g = Factors(s_case with { Mask = new AttentionMask { QueryOffset = -1, Window = 4 } }, RowFactor.Ssmax(0.43));
        Assert.That(g.Row(0, 1, 0)[0], Is.Zero, "no visible key");
        Assert.That(g.Row(0, 1, 1)[0], Is.Zero, "one visible key");
        Assert.That(g.Row(0, 1, 3)[0], Is.EqualTo(0.43 * Math.Log(3)).Within(1e-15));
        Assert.That(g.Row(0, 1, 5)[0], Is.EqualTo(0.43 * Math.Log(4)).Within(1e-15), "the window limits n");
    }

    [Test]
    public void Asentmax_grows_with_the_position()
    {
        HostArray<double> g = Factors(s_case with { Mask = new AttentionMask { QueryOffset = -1 } }, RowFactor.Asentmax(0.5, 2));
        Assert.That(g.Row(0, 0, 0)[0], Is.EqualTo(1 + (0.5 * Math.Pow(Math.Log(2), 2))).Within(1e-15), "position -1 counts as 0");
        Assert.That(g.Row(0, 0, 5)[0], Is.EqualTo(1 + (0.5 * Math.Pow(Math.Log(6), 2))).Within(1e-15));
    }

    [Test]
    public void Values_may_differ_between_heads()
    {
        HostArray<double> g = Factors(s_case, RowFactor.Asentmax([0.5, 0.25], [1, 2]));
        Assert.That(g.Row(0, 0, 0)[0], Is.EqualTo(1 + (0.5 * Math.Log(4))).Within(1e-15));
        Assert.That(g.Row(0, 1, 0)[0], Is.EqualTo(1 + (0.25 * Math.Pow(Math.Log(4), 2))).Within(1e-15));
        Assert.That(Factors(s_case, RowFactor.Constant(2, 3)).Row(0, 1, 4)[0], Is.EqualTo(3));
    }

    [TestCase("reference", 1e-12)]
    [TestCase("cpu", 1e-5)]
    public void A_constant_factor_is_a_scale(string device, double tolerance)
    {
        AttentionInputs inputs = s_case.Inputs(s_case.Variables());
        double[] factor = Output(device, inputs, new ScoreOptions { Scale = 0.5, RowFactor = RowFactor.Constant(1.6) });
        Assert.That(factor, Is.EqualTo(Output(device, inputs, new ScoreOptions { Scale = 0.8 })).Within(tolerance));
        Assert.That(factor, Is.Not.EqualTo(Output(device, inputs, new ScoreOptions { Scale = 0.5 })).Within(tolerance));
    }

    [TestCase("reference", 1e-12)]
    [TestCase("cpu", 1e-5)]
    public void Factors_of_each_row_are_multiplied_into_the_queries(string device, double tolerance)
    {
        OneViewCase test = s_case with { RowFactorKind = RowFactorKind.PerRow };
        Dictionary<string, double[]> variables = test.Variables();
        double[] output = Output(device, test.Inputs(variables), test.Scores(variables));
        double[] scaled = [.. variables["q"].Select((value, n) => value * variables["row_factors"][n / test.HeadDim])];
        AttentionInputs inputs = s_case.Inputs(variables.Where(v => v.Key != "row_factors").ToDictionary()) with
        {
            Query = AttentionTensor.From<double>(scaled, test.QueryShape),
        };
        Assert.That(output, Is.EqualTo(Output(device, inputs, new ScoreOptions())).Within(tolerance));
    }

    [TestCase("reference", 1e-12)]
    [TestCase("cpu", 1e-5)]
    public void Linear_biases_follow_the_distance_and_only_where_there_is_a_slope(string device, double tolerance)
    {
        // All products are 0: the weights are those of the biases alone, exp(-slope (i - j)) over their sum.
        OneViewCase test = s_case with { Spread = 0, ValueDim = 1 };
        Dictionary<string, double[]> variables = test.Variables();
        double[] output = Output(device, test.Inputs(variables), new ScoreOptions { AlibiSlopes = [0, 0.5] });
        double[] Expected(int head, double slope)
        {
            double[] rows = new double[test.Queries];
            for (int i = 0; i < test.Queries; i++)
            {
                double[] w = [.. Enumerable.Range(0, i + 3).Select(j => Math.Exp(-slope * (i + 2 - j)))];
                rows[i] = w.Select((weight, j) => weight * variables["v"][(head * test.Keys) + j]).Sum() / w.Sum();
            }

            return rows;
        }

        Assert.That(output.Take(6), Is.EqualTo(Expected(0, 0)).Within(tolerance));
        Assert.That(output.Skip(6), Is.EqualTo(Expected(1, 0.5)).Within(tolerance));
    }

    [Test]
    public void A_row_factor_needs_values_that_are_numbers()
    {
        Assert.That(() => RowFactor.Ssmax(), Throws.ArgumentException.With.Message.Contains("s is empty"));
        Assert.That(
            () => RowFactor.Constant(1, double.NaN), Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("g is NaN"));
        Assert.That(
            () => RowFactor.Asentmax([1, 2], [1]), Throws.ArgumentException.With.Message.Contains("gamma has 1 values and beta has 2"));
    }

    private static HostArray<double> Factors(OneViewCase test, RowFactor factor) =>
        new ScoreOptions { RowFactor = factor }.ToTerms<double>(test.Problem, null).RowFactor!;

    private static double[] Output(string device, AttentionInputs inputs, ScoreOptions scores) => Values.Doubles(
        new SoftmaxAttention(AttentionDevice.Parse(device), new SoftmaxOptions { Scores = scores }).Forward(inputs).Output);
}
