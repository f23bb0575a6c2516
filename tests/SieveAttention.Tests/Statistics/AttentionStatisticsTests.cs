using NUnit.Framework;

namespace SieveAttention.Tests.Statistics;

/// <summary>Statistics of weights whose values are known.</summary>
public sealed class AttentionStatisticsTests
{
    [Test]
    public void Equal_weights_have_uniform_shares_and_the_entropy_of_their_number()
    {
        // Queries of zeros: every score is 0, so that row i spreads 1 over i + 1 keys.
        AttentionStatistics statistics = AttentionStatistics.Of(Softmax(new double[4], new double[4], [1, 1, 4, 1]));
        double share = (1 + (1 / 2.0) + (1 / 3.0) + (1 / 4.0)) / 4;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.Rows, Is.EqualTo(4));
            Assert.That(statistics.VisiblePairs, Is.EqualTo(10));
            Assert.That(statistics.ZeroPairs, Is.Zero);
            Assert.That(statistics.ZeroFraction, Is.Zero);
            Assert.That(statistics.EmptyRows, Is.Zero);
            Assert.That(statistics.MeanSupport, Is.EqualTo(2.5));
            Assert.That(statistics.LargestSupport, Is.EqualTo(4));
            Assert.That(statistics.FirstKeyShare, Is.EqualTo(share).Within(1e-14));
            Assert.That(statistics.UniformFirstKeyShare, Is.EqualTo(share).Within(1e-14));
            Assert.That(statistics.Entropy, Is.EqualTo((Math.Log(2) + Math.Log(3) + Math.Log(4)) / 4).Within(1e-14));
            Assert.That(statistics.Smallest, Is.Zero);
            Assert.That(statistics.Largest, Is.EqualTo(1));
            Assert.That(statistics.Counts, Is.Empty);
            Assert.That(statistics.DroppedMass, Is.Null);
            Assert.That(statistics.SelectionErrorBound, Is.Null);
        }
    }

    [Test]
    public void A_sink_has_nearly_all_of_the_share_and_leaves_no_entropy()
    {
        AttentionStatistics statistics = AttentionStatistics.Of(Softmax([1, 1, 1, 1], [50, 0, 0, 0], [1, 1, 4, 1]));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.FirstKeyShare, Is.EqualTo(1).Within(1e-15));
            Assert.That(statistics.UniformFirstKeyShare, Is.EqualTo(25.0 / 48).Within(1e-14));
            Assert.That(statistics.Entropy, Is.EqualTo(0).Within(1e-12));
        }
    }

    [Test]
    public void Rows_that_do_not_see_the_first_key_do_not_count_for_its_share()
    {
        SoftmaxOptions options = new() { Mask = new AttentionMask { Window = 1 } };
        using AttentionTensor values = Tensor(new double[4], [1, 1, 4, 1]);
        AttentionInputs inputs = new() { Query = values, Key = values, Value = values };
        AttentionStatistics statistics = AttentionStatistics.Of(AttentionWeights.Of(options, inputs));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.FirstKeyShare, Is.EqualTo(1), "only row 0 sees key 0, and nothing else");
            Assert.That(statistics.VisiblePairs, Is.EqualTo(4));
        }
    }

    [Test]
    public void Rows_without_weights_are_empty_and_have_neither_share_nor_entropy()
    {
        ThresholdDifferentialOptions options = new() { Beta = 100, Mask = new AttentionMask { QueryOffset = 1 } };
        using AttentionTensor rows = Tensor([1, -1, 1, -1, 1, -1], [1, 1, 3, 2]);
        ThresholdDifferentialInputs inputs = new() { Query1 = rows, Key1 = rows, Value = rows };
        AttentionStatistics statistics = AttentionStatistics.Of(AttentionWeights.Of(options, inputs));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.EmptyRows, Is.EqualTo(3));
            Assert.That(statistics.EmptyRowFraction, Is.EqualTo(1));
            Assert.That(statistics.ZeroFraction, Is.EqualTo(1));
            Assert.That(statistics.FirstKeyShare, Is.Null);
            Assert.That(statistics.Entropy, Is.Null);
            Assert.That(statistics.Counts, Is.EqualTo(new[] { new AttentionCount("view 1", 0, 0) }));
        }
    }

    [Test]
    public void Shares_of_negative_weights_are_those_of_their_magnitudes()
    {
        // All scores are 0: row 0 has the weight 1 - 3, row 1 has 1/2 - 3/2 on both keys.
        DifferentialOptions options = new() { Lambda = [3] };
        using AttentionTensor zeros = Tensor(new double[2], [1, 1, 2, 1]);
        DifferentialInputs inputs = new() { Query1 = zeros, Key1 = zeros, Query2 = zeros, Key2 = zeros, Value = zeros };
        AttentionStatistics statistics = AttentionStatistics.Of(AttentionWeights.Of(options, inputs));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.Smallest, Is.EqualTo(-2), "row 0");
            Assert.That(statistics.Largest, Is.Zero);
            Assert.That(statistics.FirstKeyShare, Is.EqualTo(0.75));
            Assert.That(statistics.Entropy, Is.EqualTo(Math.Log(2) / 2).Within(1e-15));
        }
    }

    [Test]
    public void Statistics_of_all_heads_are_those_of_the_heads_together()
    {
        Random random = new(5);
        EntmaxOptions options = new() { Alpha = [1.5] };
        using AttentionTensor queries = Random(random, [2, 4, 70, 8]);
        using AttentionTensor keys = Random(random, [2, 2, 90, 8]);
        AttentionInputs inputs = new() { Query = queries, Key = keys, Value = keys };
        AttentionWeights weights = AttentionWeights.Of(options, inputs);
        AttentionStatistics all = AttentionStatistics.Of(weights);
        AttentionStatistics[] heads =
            [.. Enumerable.Range(0, 8).Select(index => AttentionStatistics.Of(weights, index / 4, index % 4))];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(all.Rows, Is.EqualTo(heads.Sum(head => head.Rows)));
            Assert.That(all.ZeroPairs, Is.EqualTo(heads.Sum(head => head.ZeroPairs)).And.GreaterThan(0));
            Assert.That(all.LargestSupport, Is.EqualTo(heads.Max(head => head.LargestSupport)));
            Assert.That(all.FirstKeyShare, Is.EqualTo(heads.Average(head => head.FirstKeyShare)).Within(1e-14));
            Assert.That(all.Entropy, Is.EqualTo(heads.Average(head => head.Entropy)).Within(1e-14));
            Assert.That(all.Counts[0].Name, Is.EqualTo("support"));
            Assert.That(all.Counts[0].Mean, Is.EqualTo(all.MeanSupport).Within(1e-12));
            Assert.That(AttentionStatistics.Of(weights).Entropy, Is.EqualTo(all.Entropy), "repeatable to the last bit");
        }
    }

    [TestCase(BlockSelectionRule.Exact)]
    [TestCase(BlockSelectionRule.Released)]
    public void What_a_selection_drops_is_what_the_operator_says(BlockSelectionRule rule)
    {
        Random random = new(11);
        SparseSparseOptions options = new() { BlockSize = 4, BlockCount = 3, Selection = rule };
        using AttentionTensor queries = Random(random, [2, 4, 60, 8]);
        using AttentionTensor keys = Random(random, [2, 2, 75, 8]);
        using AttentionTensor values = Random(random, [2, 2, 75, 5]);
        SparseSparseInputs inputs = new() { Query = queries, Key = keys, Value = values };
        AttentionStatistics statistics = AttentionStatistics.Of(AttentionWeights.Of(options, inputs));
        using SparseSparseStatistics expected = new SparseSparseAttention(AttentionDevice.Reference, options).Statistics(inputs);
        double[] dropped = expected.DroppedMass.AsSpan<double>().ToArray();
        double[] bounds = expected.ErrorBound.AsSpan<double>().ToArray();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.DroppedMass, Is.EqualTo(dropped.Average()).Within(1e-12).And.GreaterThan(0.01));
            Assert.That(statistics.LargestDroppedMass, Is.EqualTo(dropped.Max()).Within(1e-12));
            Assert.That(statistics.SelectionErrorBound, Is.EqualTo(bounds.Average()).Within(1e-12));
            Assert.That(statistics.LargestSelectionErrorBound, Is.EqualTo(bounds.Max()).Within(1e-12));
            Assert.That(statistics.LargestSupport, Is.LessThanOrEqualTo(12));
            AttentionWeights full = AttentionWeights.Of(options with { Stream = SparseSparseMode.Full }, inputs);
            Assert.That(AttentionStatistics.Of(full).DroppedMass, Is.Null, "the full stream selects nothing");
        }
    }

    [Test]
    public void A_selection_of_all_blocks_drops_nothing()
    {
        SparseSparseOptions options = new() { BlockSize = 4, BlockCount = 8 };
        using AttentionTensor rows = Random(new Random(3), [1, 2, 31, 4]);
        SparseSparseInputs inputs = new() { Query = rows, Key = rows, Value = rows };
        AttentionStatistics statistics = AttentionStatistics.Of(AttentionWeights.Of(options, inputs));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(statistics.LargestDroppedMass, Is.Zero);
            Assert.That(statistics.LargestSelectionErrorBound, Is.Zero);
            Assert.That(statistics.ZeroPairs, Is.Zero);
        }
    }

    [Test]
    public void An_index_or_a_span_that_does_not_fit_is_refused()
    {
        AttentionWeights weights = Softmax(new double[4], new double[4], [1, 1, 4, 1]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(
                () => weights.Row(0, 1, 0, new double[4]), Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("head is 1"));
            Assert.That(
                () => weights.Row(0, 0, 4, new double[4]), Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("row is 4"));
            Assert.That(
                () => weights.Row(0, 0, 0, new double[3]), Throws.ArgumentException.With.Message.Contains("weights has 3 elements"));
            Assert.That(() => weights.Row(0, 0, 0, new double[4], new int[1]), Throws.ArgumentException.With.Message.Contains("counts"));
            Assert.That(
                () => AttentionStatistics.Of(weights, 1, 0),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("batch is 1"));
        }
    }

    [Test]
    public void Weights_of_row_functions_are_those_of_the_operator()
    {
        Random random = new(4);
        using AttentionTensor query = Random(random, [1, 4, 5, 3]);
        using AttentionTensor key = Random(random, [1, 2, 7, 3]);
        using AttentionTensor value = Random(random, [1, 2, 7, 2]);
        AttentionTensor bias = Random(random, [1, 4, 1, 3]);
        RowFunctionInputs inputs = new()
        {
            Attention = new AttentionInputs { Query = query, Key = key, Value = value }, DistanceBias = bias,
        };
        RowFunctionOptions options = new() { Weights = new ElasticSoftmaxWeights { Tau = [-0.5] }, Mask = new AttentionMask { Window = 5 } };
        using RowFunctionResult result = new RowFunctionAttention(AttentionDevice.Reference, options).Forward(inputs);
        AttentionWeights weights = AttentionWeights.Of(options, inputs);
        bias.Dispose();
        double[] row = new double[7];
        int[] counts = new int[1];
        for (int head = 0; head < 4; head++)
        {
            for (int i = 0; i < 5; i++)
            {
                weights.Row(0, head, i, row, counts);
                Assert.That(counts[0], Is.EqualTo(row.Count(w => w != 0)));
                for (int c = 0; c < 2; c++)
                {
                    double sum = Enumerable.Range(0, 7).Sum(j => row[j] * value.AsSpan<double>()[(((head / 2 * 7) + j) * 2) + c]);
                    Assert.That(result.Output.AsSpan<double>()[(((head * 5) + i) * 2) + c], Is.EqualTo(sum).Within(1e-14));
                }
            }
        }

        Assert.That(AttentionStatistics.Of(weights).ZeroPairs, Is.Positive);
    }

    [Test]
    public void Groups_over_several_key_heads_have_no_weights()
    {
        using AttentionTensor queries = Tensor(new double[6], [1, 6, 1, 1]);
        using AttentionTensor keys = Tensor(new double[2], [1, 2, 1, 1]);
        using AttentionTensor logits = Tensor(new double[3], [1, 3, 1, 1]);
        GroupedDifferentialInputs inputs = new() { Query = queries, Key = keys, Value = keys, LambdaLogit = logits };
        Assert.That(
            () => AttentionWeights.Of(new GroupedDifferentialOptions(), inputs),
            Throws.TypeOf<NotSupportedException>().With.Message.Contains("multiple of 2 query heads").And.Message.Contains("there are 3"));
    }

    private static AttentionWeights Softmax(double[] queries, double[] keys, int[] shape)
    {
        using AttentionTensor query = Tensor(queries, shape);
        using AttentionTensor key = Tensor(keys, shape);
        return AttentionWeights.Of(new SoftmaxOptions(), new AttentionInputs { Query = query, Key = key, Value = key });
    }

    private static AttentionTensor Random(Random random, int[] shape) => Tensor(
        [.. Enumerable.Range(0, shape.Aggregate((product, size) => product * size)).Select(_ => (4 * random.NextDouble()) - 2)], shape);

    private static AttentionTensor Tensor(double[] values, int[] shape) =>
        AttentionTensor.From<double>(values, new TensorShape(shape[0], shape[1], shape[2], shape[3]));
}
