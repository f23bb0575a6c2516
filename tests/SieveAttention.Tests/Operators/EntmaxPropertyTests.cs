using NUnit.Framework;
using SieveAttention.Reference;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>What alpha-entmax promises of one row of scores, on the reference.</summary>
internal sealed class EntmaxPropertyTests
{
    private static readonly double[] s_alphas = [1.05, 1.2, 4.0 / 3, 1.5, 1.6, 1.75, 1.9, 2];

    [Test]
    public void Weights_sum_to_one_and_the_threshold_lies_in_its_bracket() => ForAllRows((s, alpha) =>
    {
        Row row = Row.Of(s, alpha);
        double max = s.Max() * (alpha - 1);
        Assert.That(row.Weights.Sum(), Is.EqualTo(1).Within(1e-11), "sum of weights");
        Assert.That(row.Tau, Is.InRange(max - 1 - 1e-12, max - Math.Pow(s.Length, 1 - alpha) + 1e-12), "bracket");
        Assert.That(row.Support, Is.EqualTo(row.Weights.Count(w => w > 0)));
    });

    [Test]
    public void Sorting_and_bracketed_steps_find_the_same_threshold() => ForAllRows((s, _) =>
    {
        foreach (double alpha in (double[])[1.5, 2])
        {
            double max = s.Max();
            double[] z = [.. s.Select(score => (alpha - 1) * (score - max))];
            Assert.That(
                EntmaxThreshold.SolveBracketed(z, alpha), Is.EqualTo(EntmaxThreshold.Solve(z, alpha)).Within(1e-12), $"alpha {alpha}");
        }
    });

    [Test]
    public void Weights_agree_with_fifty_bisections_written_apart() => ForAllRows((s, alpha) =>
    {
        double[] expected = Bisected(s, alpha);
        Assert.That(Deviation.Of(Row.Of(s, alpha).Weights, expected).Max, Is.LessThanOrEqualTo(1e-11));
    });

    [Test]
    public void A_constant_added_to_all_scores_changes_no_weight() => ForAllRows((s, alpha) =>
    {
        double[] shifted = [.. s.Select(score => score + 3.25)];
        Assert.That(Deviation.Of(Row.Of(shifted, alpha).Weights, Row.Of(s, alpha).Weights).Max, Is.LessThanOrEqualTo(1e-11));
    });

    [Test]
    public void Gradients_of_a_row_sum_to_zero() => ForAllRows((s, alpha) =>
    {
        double[] dw = Values.Normal(new Random(s.Length), s.Length);
        double[] ds = Row.Of(s, alpha).Backward(dw);
        Assert.That(ds.Sum(), Is.EqualTo(0).Within(1e-11 * Math.Max(1, ds.Sum(Math.Abs))));
    });

    [Test]
    public void Larger_scores_have_a_smaller_support() => ForAllRows((s, alpha) =>
    {
        double[] larger = [.. s.Select(score => 1.5 * score)];
        Assert.That(Row.Of(larger, alpha).Support, Is.LessThanOrEqualTo(Row.Of(s, alpha).Support));
    });

    /// <summary>The certificate by which decoding skips pages.</summary>
    [Test]
    public void The_threshold_of_a_subset_is_not_above_that_of_the_row() => ForAllRows((s, alpha) =>
    {
        double[] subset = s[..((s.Length + 1) / 2)];
        Assert.That(Row.Of(subset, alpha).Tau, Is.LessThanOrEqualTo(Row.Of(s, alpha).Tau + 1e-12));
    });

    [Test]
    public void Keys_that_the_certificate_rules_out_change_nothing() => ForAllRows((s, alpha) =>
    {
        double tau = Row.Of(s, alpha).Tau;
        double[] longer = [.. s, (tau / (alpha - 1)) - 1e-6, (tau / (alpha - 1)) - 5];
        Row row = Row.Of(longer, alpha);
        Assert.That(row.Weights.TakeLast(2), Has.All.Zero);
        Assert.That(Deviation.Of(row.Weights.AsSpan(0, s.Length), Row.Of(s, alpha).Weights).Max, Is.LessThanOrEqualTo(1e-12));
    });

    /// <summary>The histogram bracket of arXiv 2604.15180: scores replaced by the lower edge of their bin.</summary>
    [Test]
    public void The_threshold_of_scores_rounded_down_to_bins_is_a_lower_bound_within_one_bin() => ForAllRows((s, alpha) =>
    {
        const int Bins = 8;
        double max = s.Max();
        double[] rounded =
            [.. s.Select(score => max + (Math.Floor((alpha - 1) * (score - max) * Bins) / Bins / (alpha - 1)))];
        double lower = Row.Of(rounded, alpha).Tau;
        Assert.That(Row.Of(s, alpha).Tau, Is.InRange(lower - 1e-12, lower + (1.0 / Bins) + 1e-12));
    });

    [Test]
    public void Alpha_2_is_the_projection_onto_the_simplex() => ForAllRows((s, _) =>
    {
        // p is the nearest point of the simplex to s iff (s - p).(e_j - p) <= 0 for every corner e_j.
        double[] p = Row.Of(s, 2).Weights;
        double inner = p.Zip(s, (w, score) => w * (score - w)).Sum();
        for (int j = 0; j < s.Length; j++)
        {
            Assert.That(s[j] - p[j] - inner, Is.LessThanOrEqualTo(1e-10));
        }
    });

    [Test]
    public void Alpha_towards_1_approaches_softmax()
    {
        double[] s = Values.Normal(new Random(3), 40);
        double[] softmax = new double[s.Length];
        SoftmaxRow.Weigh(s, softmax);
        foreach (double step in (double[])[0.1, 0.01, 0.001, 0.0001])
        {
            // The weights are a smooth function of alpha: their distance shrinks in proportion.
            Assert.That(Deviation.Of(Row.Of(s, 1 + step).Weights, softmax).Max, Is.LessThan(1.5 * step), $"alpha 1 + {step}");
        }
    }

    [Test]
    public void One_visible_key_gets_everything([ValueSource(nameof(s_alphas))] double alpha)
    {
        Row row = Row.Of([-7.5], alpha);
        Assert.That(row.Weights, Is.EqualTo([1.0]));
        Assert.That(row.Tau, Is.EqualTo(((alpha - 1) * -7.5) - 1).Within(1e-14));
        Assert.That(row.Backward([3.0]), Is.EqualTo([0.0]));
    }

    [Test]
    public void Equal_scores_get_equal_weights([ValueSource(nameof(s_alphas))] double alpha)
    {
        double[] s = new double[37];
        Array.Fill(s, 2.5);
        Row row = Row.Of(s, alpha);
        Assert.That(row.Support, Is.EqualTo(37));
        Assert.That(row.Weights, Has.All.EqualTo(1.0 / 37).Within(1e-14));
        Assert.That(row.Tau, Is.EqualTo(((alpha - 1) * 2.5) - Math.Pow(37, 1 - alpha)).Within(1e-13));
    }

    [Test]
    public void A_dominating_score_gets_everything_and_no_gradient([ValueSource(nameof(s_alphas))] double alpha)
    {
        Row row = Row.Of([0.5, 1000, -1000, 3], alpha);
        Assert.That(row.Weights, Is.EqualTo([0.0, 1, 0, 0]));
        Assert.That(row.Support, Is.EqualTo(1));
        Assert.That(row.Backward([3, -0.7, 2, 5]), Has.All.Zero);
    }

    [Test]
    public void Ties_at_the_edge_of_the_support_have_no_weight()
    {
        // tau = 0: the scores that equal it are not in the support.
        Row row = Row.Of([0.75, 0.25, 0, 0, -1], 2);
        Assert.That(row.Tau, Is.Zero);
        Assert.That(row.Weights, Is.EqualTo([0.75, 0.25, 0, 0, 0]));
        Assert.That(row.Support, Is.EqualTo(2));
    }

    [Test]
    public void Scores_that_are_not_numbers_give_weights_that_are_not([ValueSource(nameof(s_alphas))] double alpha) =>
        Assert.That(Row.Of([1, double.NaN, 2], alpha).Weights, Has.All.NaN);

    private static void ForAllRows(Action<double[], double> assertion) => Properties.ForAllSeeds(seed =>
    {
        Random random = new(seed);
        double scale = Math.Pow(10, (random.NextDouble() * 4) - 1);
        double[] s = [.. Values.Normal(random, random.Next(1, 200)).Select(value => value * scale)];
        if (random.Next(4) == 0)
        {
            // Ties.
            s = [.. s.Select(value => Math.Round(value))];
        }

        assertion(s, s_alphas[random.Next(s_alphas.Length)]);
    });

    private static double[] Bisected(double[] s, double alpha)
    {
        double max = s.Max();
        double[] z = [.. s.Select(score => (alpha - 1) * (score - max))];
        double[] At(double tau) => [.. z.Select(value => Math.Pow(Math.Max(0, value - tau), 1 / (alpha - 1)))];
        double lo = -1;
        double hi = 0;
        for (int step = 0; step < 60; step++)
        {
            double middle = (lo + hi) / 2;
            if (At(middle).Sum() > 1)
            {
                lo = middle;
            }
            else
            {
                hi = middle;
            }
        }

        return At((lo + hi) / 2);
    }

    /// <summary>One row, all keys visible.</summary>
    private sealed class Row
    {
        private readonly EntmaxRow _function;
        private readonly RowPlace _place;
        private readonly double[] _scores;

        private Row(double[] s, double alpha)
        {
            AttentionProblem problem = new(1, 1, 1, 1, s.Length, 1, 1, Causal: false, 0, 0);
            _scores = s;
            _place = new RowPlace(0, 0, 0, problem.Visible(0));
            _function = new EntmaxRow(problem, [alpha]);
            Weights = new double[s.Length];
            _function.Forward(_place, s, Weights);
        }

        public double[] Weights { get; }

        public double Tau => _function.Tau[0];

        public int Support => _function.Support[0];

        public static Row Of(double[] s, double alpha) => new(s, alpha);

        public double[] Backward(double[] dw)
        {
            double[] ds = new double[_scores.Length];
            _function.Backward(_place, _scores, Weights, dw, ds);
            return ds;
        }
    }
}
