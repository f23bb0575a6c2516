using NUnit.Framework;
using SieveAttention.Reference;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>Weights of the related papers' row functions against their formulas, written apart, and where the formulas overflow.</summary>
internal sealed class RowFunctionTests
{
    private static readonly double[] s_scores = [0.7, -1.2, 0, 2.5, -0.01, 1e-9];

    [Test]
    public void Softpick_follows_its_formula()
    {
        double sum = s_scores.Sum(s => Math.Abs(Math.Exp(s) - 1)) + 1e-6;
        IEnumerable<double> expected = s_scores.Select(s => Math.Max(Math.Exp(s) - 1, 0) / sum);
        Assert.That(Weigh(_ => new SoftpickRow(1e-6), s_scores), Is.EqualTo(expected).Within(1e-15));
    }

    [Test]
    public void Softpick_neither_overflows_nor_loses_small_scores()
    {
        double first = 1 / (1 + Math.Exp(-1));
        Assert.That(Weigh(_ => new SoftpickRow(1e-6), [1000, 999, -1000]), Is.EqualTo([first, 1 - first, 0]).Within(1e-15));

        // e^s - 1 = s to 16 digits; the sum is 3e-12 + eps.
        Assert.That(
            Weigh(_ => new SoftpickRow(1e-12), [1e-12, -2e-12]), Is.EqualTo([0.25, 0]).Within(1e-11));
    }

    [Test]
    public void Softpick_epsilon_does_not_depend_on_the_largest_score()
    {
        double expected = (Math.Exp(3) - 1) / (Math.Exp(3) - Math.Exp(-1) + 10);
        Assert.That(Weigh(_ => new SoftpickRow(10), [3, -1])[0], Is.EqualTo(expected).Within(1e-15));
    }

    [Test]
    public void Sigmoid_follows_its_formula()
    {
        Assert.That(
            Weigh(problem => new SigmoidRow(problem, [0.3]), s_scores),
            Is.EqualTo(s_scores.Select(s => 1 / (1 + Math.Exp(-s - 0.3)))).Within(1e-15));
        Assert.That(
            Weigh(problem => new SigmoidRow(problem, null), s_scores),
            Is.EqualTo(s_scores.Select(s => 1 / (1 + (6 * Math.Exp(-s))))).Within(1e-15));
        Assert.That(Weigh(problem => new SigmoidRow(problem, [0]), [1000, -1000]), Is.EqualTo([1.0, 0.0]));
    }

    [Test]
    public void Elastic_softmax_follows_its_formula_and_has_exact_zeros()
    {
        double sum = s_scores.Sum(Math.Exp);
        double[] w = Weigh(problem => new ElasticSoftmaxRow(problem, [-0.6]), s_scores);
        Assert.That(w, Is.EqualTo(s_scores.Select(s => Math.Max((Math.Exp(s) / sum) - 0.1, 0))).Within(1e-15));
        Assert.That(w, Has.Some.Zero.And.Some.Positive);
    }

    [Test]
    public void Elastic_softmax_with_tau_0_is_softmax()
    {
        double[] softmax = new double[s_scores.Length];
        SoftmaxRow.Weigh(s_scores, softmax);
        Assert.That(Weigh(problem => new ElasticSoftmaxRow(problem, [0]), s_scores), Is.EqualTo(softmax));
    }

    [Test]
    public void Affine_follows_its_formula()
    {
        double sum = s_scores.Sum(Math.Exp);
        HostArray<double> One(double value)
        {
            HostArray<double> array = new(new TensorShape(1, 1, 1, 1));
            array.Data[0] = value;
            return array;
        }

        Assert.That(
            Weigh(problem => new AffineRow(problem, One(0.7), One(-0.2)), s_scores),
            Is.EqualTo(s_scores.Select(s => (0.7 * Math.Exp(s) / sum) - 0.2)).Within(1e-15));
    }

    [Test]
    public void Alpha_ReLU_with_the_threshold_of_entmax_is_entmax([Values(1.25, 1.5, 2)] double alpha)
    {
        AttentionProblem problem = Problem(s_scores.Length);
        EntmaxRow entmax = new(problem, [alpha]);
        double[] expected = new double[s_scores.Length];
        entmax.Forward(new RowPlace(0, 0, 0, problem.Visible(0)), s_scores, expected);
        Assert.That(Weigh(_ => new AlphaReluRow(problem, alpha, [entmax.Tau[0]]), s_scores), Is.EqualTo(expected).Within(1e-14));
    }

    [Test]
    public void Softmax_keeps_its_digits_for_large_scores()
    {
        SoftmaxRow row = new(Problem(2));
        Assert.That(Weigh(_ => row, [5000, 5000]), Is.EqualTo([0.5, 0.5]));
        Assert.That(row.LogSumExp[0], Is.EqualTo(5000 + Math.Log(2)));
    }

    [Test]
    public void Weights_stay_not_a_number_where_the_score_is()
    {
        Func<AttentionProblem, RowFunction>[] functions =
        [
            problem => new SoftmaxRow(problem),
            _ => new SoftpickRow(1e-6),
            problem => new SigmoidRow(problem, null),
            problem => new ElasticSoftmaxRow(problem, [-1]),
            problem => new AlphaReluRow(problem, 1.5, [0]),
        ];
        foreach (Func<AttentionProblem, RowFunction> function in functions)
        {
            Assert.That(Weigh(function, [1, double.NaN, 2])[1], Is.NaN);
        }
    }

    private static AttentionProblem Problem(int keys) => new(1, 1, 1, 1, keys, 1, 1, Causal: false, 0, 0);

    private static double[] Weigh(Func<AttentionProblem, RowFunction> function, double[] s)
    {
        AttentionProblem problem = Problem(s.Length);
        double[] w = new double[s.Length];
        function(problem).Forward(new RowPlace(0, 0, 0, problem.Visible(0)), s, w);
        return w;
    }
}
