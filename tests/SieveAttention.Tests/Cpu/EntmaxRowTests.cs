using NUnit.Framework;
using SieveAttention.Cpu.Rows;
using SieveAttention.Tests.Support;
using CpuAttention = SieveAttention.Cpu.RowAttention;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Properties of alpha-entmax in float32: one query row against keys whose scores are given; values are 1, so that out is the sum of
/// weights.
/// </summary>
[TestFixture(1.1)]
[TestFixture(1.5)]
[TestFixture(1.75)]
[TestFixture(2.0)]
internal sealed class EntmaxRowTests(double alpha)
{
    private static readonly int[] s_lengths = [1, 2, 15, 16, 17, 64, 65, 1000, 4096];

    [TestCaseSource(nameof(s_lengths))]
    public void Weights_sum_to_one_whatever_the_range_of_scores(int length)
    {
        foreach (float range in new[] { 0.01f, 1f, 30f, 1000f })
        {
            float[] scores = [.. Values.Normal(new Random(length), length).Select(x => (float)(range * x))];
            (float sum, EntmaxRow row, _) = Attend(scores);
            Assert.That(sum, Is.EqualTo(1).Within(1e-5), $"range {range}");
            double slope = alpha - 1;
            Assert.That(row.Support[0], Is.EqualTo(scores.Count(s => slope * s > row.Tau[0])).Within(range >= 1 ? 0 : length / 100));
        }
    }

    [TestCaseSource(nameof(s_lengths))]
    public void Equal_scores_have_equal_weights(int length)
    {
        (float sum, EntmaxRow row, _) = Attend([.. Enumerable.Repeat(2.5f, length)]);
        Assert.That(sum, Is.EqualTo(1).Within(1e-5));
        Assert.That(row.Support[0], Is.EqualTo(length));
        Assert.That(row.Tau[0], Is.EqualTo(((alpha - 1) * 2.5) - Math.Pow(length, 1 - alpha)).Within(1e-6));
    }

    [Test]
    public void A_dominating_score_takes_all_and_gets_no_gradient()
    {
        float[] scores = new float[100];
        scores[37] = 50;
        (float sum, EntmaxRow row, RowGradients<float> gradients) = Attend(scores);
        Assert.That(sum, Is.EqualTo(1));
        Assert.That(row.Support[0], Is.EqualTo(1));
        Assert.That(row.Tau[0], Is.EqualTo((50 * (alpha - 1)) - 1).Within(1e-5));
        Assert.That(gradients.Key.Data, Has.All.EqualTo(0));
        Assert.That(gradients.Query.Data, Has.All.EqualTo(0));
    }

    [Test]
    public void A_common_shift_of_the_scores_changes_nothing()
    {
        // Multiples of 1/64 stay exact when 100 is added.
        float[] scores = [.. Values.Normal(new Random(3), 500).Select(x => (float)(Math.Round(x * 64) / 64))];
        float[] values = [.. Values.Normal(new Random(4), 500).Select(x => (float)x)];
        float plain = Attend(scores, values).Sum;
        float shifted = Attend([.. scores.Select(s => s + 100)], values).Sum;
        Assert.That(shifted, Is.EqualTo(plain).Within(1e-6));
    }

    /// <summary>Gradients are those for a gradient of 1 of every output.</summary>
    private (float Sum, EntmaxRow Row, RowGradients<float> Gradients) Attend(float[] scores, float[]? values = null)
    {
        AttentionProblem problem = new(1, 1, 1, 1, scores.Length, 1, 1, Causal: false, QueryOffset: 0, Window: 0);
        HostArray<float> q = new(problem.QueryShape);
        HostArray<float> k = new(problem.KeyShape);
        HostArray<float> v = new(problem.ValueShape);
        q.Data[0] = 1;
        scores.CopyTo(k.Data, 0);
        v.Data.AsSpan().Fill(1);
        values?.CopyTo(v.Data, 0);
        EntmaxRow row = new(problem, [alpha]);
        float sum = CpuAttention.Forward(problem, new ScoreTerms<float>(1), row, q, k, v).Data[0];
        return (sum, row, CpuAttention.Backward(problem, new ScoreTerms<float>(1), row, q, k, v, q));
    }
}
