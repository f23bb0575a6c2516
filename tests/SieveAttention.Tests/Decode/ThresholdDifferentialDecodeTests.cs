using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class ThresholdDifferentialDecodeTests
{
    private static readonly ThresholdDifferentialOptions s_twoViews = new() { Beta = 0.4, Lambda = 0.5 };

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, s_twoViews);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void One_view_with_window_norm_and_gate(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, new ThresholdDifferentialOptions
        {
            Beta = 0.3,
            Power = 1.5,
            Kappa = 2,
            Mask = new AttentionMask { Window = 9 },
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-3, OutputScale = 0.7 },
        });

    [TestCase(1.0)]
    [TestCase(3.0)]
    public void Powers_that_have_a_code_of_their_own(double power) =>
        Check(AttentionDevice.Reference, paged: true, new DecodeFeed(), s_twoViews with { Power = power });

    [Test]
    public void Survivors_are_those_of_the_prefill()
    {
        DecodeFeed feed = new() { Rows = 2 };
        ThresholdDifferentialAttention attention = new(AttentionDevice.Reference, s_twoViews);
        foreach (bool second in (bool[])[false, true])
        {
            feed.Run(
                feed.Cache(paged: true, views: 2),
                new Steps(feed, attention, result => Counts(second ? result.Survivors2! : result.Survivors1)).Decode,
                s => Counts(second ? Prefill(feed, s_twoViews, s).Survivors2! : Prefill(feed, s_twoViews, s).Survivors1),
                tolerance: 0);
        }
    }

    [Test]
    public void A_truncated_sequence_goes_on_with_other_keys()
    {
        DecodeFeed feed = new() { Prompts = [30, 11] };
        KeyValueCache cache = feed.Cache(paged: true, views: 2);
        Steps steps = new(feed, new ThresholdDifferentialAttention(AttentionDevice.Reference, s_twoViews), r => r.Output);
        feed.AppendPrompts(cache);
        feed.AppendStep(cache, 9);
        using AttentionTensor rejected = steps.Decode(cache, 9);
        cache.Truncate(0, 13);
        cache.Truncate(1, 0);
        cache.Append(0, feed.Key(0).Slice(2, 13, 17), feed.Value(0).Slice(2, 13, 17), feed.Key(0, "k2").Slice(2, 13, 17));
        cache.Append(1, feed.Key(1).Slice(2, 0, 11), feed.Value(1).Slice(2, 0, 11), feed.Key(1, "k2").Slice(2, 0, 11));
        feed.AppendStep(cache, 0);
        using AttentionTensor again = steps.Decode(cache, 0);

        KeyValueCache fresh = feed.Cache(paged: false, views: 2);
        feed.AppendPrompts(fresh);
        feed.AppendStep(fresh, 0);
        Assert.That(Values.Doubles(again), Is.EqualTo(Values.Doubles(steps.Decode(fresh, 0))));
    }

    [Test]
    public void Chosen_sequences_are_decoded_in_the_order_given()
    {
        DecodeFeed feed = new();
        KeyValueCache cache = feed.Cache(paged: false, views: 2);
        feed.AppendPrompts(cache);
        feed.AppendStep(cache, 0);
        ThresholdDifferentialAttention attention = new(AttentionDevice.Cpu, s_twoViews);
        ThresholdDifferentialDecodeInputs all = new() { Query1 = feed.StepQuery(0), Query2 = feed.StepQuery(0, "q2") };
        using ThresholdDifferentialResult whole = attention.Decode(all, cache);
        using ThresholdDifferentialResult last = attention.Decode(
            new ThresholdDifferentialDecodeInputs
            {
                Query1 = all.Query1.Slice(0, 2, 1),
                Query2 = all.Query2.Slice(0, 2, 1),
                Sequences = [2],
            },
            cache);
        Assert.That(Values.Doubles(last.Output), Is.EqualTo(Values.Doubles(whole.Output.Slice(0, 2, 1))));
    }

    [Test]
    public void A_zero_key_and_a_key_that_is_not_a_number_stay_with_the_rows_that_see_them()
    {
        KeyValueCache cache = KeyValueCache.Contiguous(new KeyValueCacheLayout(1, 1, 2, 1) { Type = TensorType.Float64 }, 4);
        AttentionTensor keys = Values.Tensor([0, 0, double.NaN, 1], new TensorShape(1, 1, 2, 2));
        cache.Append(0, keys, Values.Tensor([5, 7], new TensorShape(1, 1, 2, 1)));
        ThresholdDifferentialAttention attention = new(AttentionDevice.Reference, new ThresholdDifferentialOptions { Beta = 0.5 });
        using ThresholdDifferentialResult result = attention.Decode(
            new ThresholdDifferentialDecodeInputs { Query1 = Values.Tensor([1, 0, 1, 0], new TensorShape(1, 1, 2, 2)) }, cache);
        Assert.That(Values.Doubles(result.Output), Is.EqualTo((double[])[0, double.NaN]));
    }

    [Test]
    public void A_cache_with_another_number_of_views_is_refused() => Assert.That(
        () => new ThresholdDifferentialAttention(AttentionDevice.Reference).Decode(
            new ThresholdDifferentialDecodeInputs { Query1 = new DecodeFeed().StepQuery(0) },
            new DecodeFeed().Cache(paged: false, views: 2)),
        Throws.ArgumentException.With.Message.Contains("The cache has 2 key view(s); this operator needs 1."));

    [Test]
    public void More_rows_than_keys_are_refused() => Assert.That(
        () => new ThresholdDifferentialAttention(AttentionDevice.Reference).Decode(
            new ThresholdDifferentialDecodeInputs { Query1 = new DecodeFeed().StepQuery(0) },
            new DecodeFeed().Cache(paged: false, views: 1)),
        Throws.ArgumentException.With.Message.Contains("Query1 has 1 rows and sequence 0 has 0 keys"));

    [Test]
    public void A_query_offset_is_refused() => Assert.That(
        () => new ThresholdDifferentialAttention(
            AttentionDevice.Cpu, new ThresholdDifferentialOptions { Mask = new AttentionMask { QueryOffset = 3 } }).Decode(
            new ThresholdDifferentialDecodeInputs { Query1 = new DecodeFeed().StepQuery(0) },
            new DecodeFeed().Cache(paged: false, views: 1)),
        Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("QueryOffset is 3; allowed: absent"));

    private static void Check(AttentionDevice device, bool paged, DecodeFeed feed, ThresholdDifferentialOptions options)
    {
        bool two = options.Lambda != 0;
        ThresholdDifferentialAttention attention = new(device, options);
        Steps steps = new(feed, attention, result => result.Output);
        KeyValueCache cache = feed.Cache(paged, two ? 2 : 1);
        feed.Run(cache, steps.Decode, s => Prefill(feed, options, s).Output, DecodeCases.Tolerance(device));
    }

    private static ThresholdDifferentialResult Prefill(DecodeFeed feed, ThresholdDifferentialOptions options, int sequence)
    {
        bool two = options.Lambda != 0;
        return new ThresholdDifferentialAttention(AttentionDevice.Reference, options).Forward(new ThresholdDifferentialInputs
        {
            Query1 = feed.Query(sequence),
            Key1 = feed.Key(sequence),
            Query2 = two ? feed.Query(sequence, "q2") : null,
            Key2 = two ? feed.Key(sequence, "k2") : null,
            Value = feed.Value(sequence),
            Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
        });
    }

    private static AttentionTensor Counts(AttentionTensor counts) =>
        Values.Tensor(counts.AsSpan<int>().ToArray().Select(n => (double)n).ToArray(), counts.Shape);

    private sealed class Steps(
        DecodeFeed feed, ThresholdDifferentialAttention attention, Func<ThresholdDifferentialResult, AttentionTensor> choose)
    {
        public AttentionTensor Decode(KeyValueCache cache, int step)
        {
            bool two = attention.Options.Lambda != 0;
            return choose(attention.Decode(
                new ThresholdDifferentialDecodeInputs
                {
                    Query1 = feed.StepQuery(step),
                    Query2 = two ? feed.StepQuery(step, "q2") : null,
                    Gate = feed.Step("gate", step, feed.QueryHeads, 1),
                },
                cache));
        }
    }
}
