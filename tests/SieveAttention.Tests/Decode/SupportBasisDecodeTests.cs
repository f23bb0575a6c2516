using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class SupportBasisDecodeTests
{
    private static readonly SupportBasisOptions s_mixed = new() { Bound = 1.6, Tile = 4, Mask = new AttentionMask { Window = 30 } };

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill_with_tiles_of_1(AttentionDevice device, bool paged, int rows)
    {
        DecodeFeed feed = new() { Rows = rows, Spread = 0.7 };
        SupportBasisOptions options = s_mixed with { Tile = 1 };
        SupportBasisAttention attention = new(device, options);
        feed.Run(
            feed.Cache(paged, views: 1),
            (cache, step) => attention.Decode(
                new DecodeInputs { Query = feed.StepQuery(step), Gate = feed.Step("gate", step, feed.QueryHeads, 1) }, cache).Output,
            sequence => new SupportBasisAttention(AttentionDevice.Reference, options).Forward(new AttentionInputs
            {
                Query = feed.Query(sequence),
                Key = feed.Key(sequence),
                Value = feed.Value(sequence),
                Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
            }).Output,
            DecodeCases.Tolerance(device));
    }

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_same_rows_over_the_keys_so_far(AttentionDevice device, bool paged, int rows)
    {
        DecodeFeed feed = new() { Prompts = [13], Rows = rows, Steps = 9, Spread = 0.7 };
        KeyValueCache cache = feed.Cache(paged, views: 1);
        feed.AppendPrompts(cache);
        double least = 1;
        double most = 0;
        for (int step = 0; step < feed.Steps; step++)
        {
            feed.AppendStep(cache, step);
            using SupportBasisResult actual = new SupportBasisAttention(device, s_mixed).Decode(
                new DecodeInputs { Query = feed.StepQuery(step) }, cache);
            using SupportBasisResult expected = new SupportBasisAttention(AttentionDevice.Reference, s_mixed).Forward(new AttentionInputs
            {
                Query = feed.StepQuery(step),
                Key = feed.Key(0).Slice(2, 0, cache.Length(0)),
                Value = feed.Value(0).Slice(2, 0, cache.Length(0)),
            });
            Deviation deviation = Deviation.Of(Values.Doubles(actual.Output), Values.Doubles(expected.Output));
            Assert.That(deviation.Relative, Is.LessThanOrEqualTo(DecodeCases.Tolerance(device)), $"step {step}");
            Assert.That(actual.ExactFraction, Is.EqualTo(expected.ExactFraction), $"step {step}");
            least = Math.Min(least, actual.ExactFraction);
            most = Math.Max(most, actual.ExactFraction);
        }

        Assert.That((least < 1, most > 0), Is.EqualTo((true, true)), "both kinds of tiles occur");
    }

    [Test]
    public void An_open_tile_turns_exact_when_a_long_key_arrives()
    {
        KeyValueCache cache = KeyValueCache.Contiguous(new KeyValueCacheLayout(1, 1, 1, 1) { Type = TensorType.Float64 }, 4);
        SupportBasisAttention attention = new(
            AttentionDevice.Reference, new SupportBasisOptions { Bound = 1, Tile = 4, Scores = new ScoreOptions { Scale = 1 } });
        DecodeInputs inputs = new() { Query = Values.Tensor([1], new TensorShape(1, 1, 1, 1)) };
        double[] fractions = new double[2];
        foreach (double key in (double[])[0.5, 3])
        {
            cache.Append(0, Values.Tensor([key], new TensorShape(1, 1, 1, 1)), Values.Tensor([key], new TensorShape(1, 1, 1, 1)));
            using SupportBasisResult result = attention.Decode(inputs, cache);
            fractions[cache.Length(0) - 1] = result.ExactFraction;
            if (cache.Length(0) == 2)
            {
                double expected = ((0.5 * Math.Exp(0.5)) + (3 * Math.Exp(3))) / (Math.Exp(0.5) + Math.Exp(3));
                Assert.That(Values.Doubles(result.Output)[0], Is.EqualTo(expected).Within(1e-14));
            }
        }

        Assert.That(fractions, Is.EqualTo((double[])[0, 1]));
    }

    [Test]
    public void A_row_whose_weights_do_not_sum_to_a_positive_number_is_an_error()
    {
        KeyValueCache cache = KeyValueCache.Contiguous(new KeyValueCacheLayout(1, 1, 1, 1), 1);
        cache.Append(0, Values.Tensor([-2], new TensorShape(1, 1, 1, 1)), Values.Tensor([1], new TensorShape(1, 1, 1, 1)));
        SupportBasisAttention attention = new(AttentionDevice.Cpu, new SupportBasisOptions { Bound = 5, Degree = 1 });
        Assert.That(
            () => attention.Decode(new DecodeInputs { Query = Values.Tensor([1], new TensorShape(1, 1, 1, 1)) }, cache),
            Throws.ArgumentException.With.Message.Contains("head 0, query row 0 sum to -1; allowed: a positive sum."));
    }
}
