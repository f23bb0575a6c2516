using NUnit.Framework;
using SieveAttention.Decoding;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class EntmaxDecodeTests
{
    private static readonly EntmaxOptions s_everything = new()
    {
        Alpha = [1.2, 1.5, 1.75, 2],
        Scores = new ScoreOptions { RowFactor = RowFactor.Asentmax(0.3, 0.8), AlibiSlopes = [0.2, 0, 0.01, -0.02] },
        Mask = new AttentionMask { Window = 40 },
    };

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows, Spread = 1.5 }, new EntmaxOptions(), r => r.Output, r => r.Output);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void With_an_alpha_a_head_row_factors_slopes_and_window(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, s_everything, result => result.Output, result => result.Output);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void Thresholds_are_those_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, s_everything, result => result.Tau, result => result.Tau);

    [Test]
    public void The_support_is_that_of_the_prefill() => Check(
        AttentionDevice.Reference,
        paged: true,
        new DecodeFeed { Spread = 1.5 },
        s_everything,
        result => Counts(result.Support),
        result => Counts(result.Support));

    [TestCase(1.5, 3.0, 0.5)]
    [TestCase(1.5, 1.0, 0.05)]
    [TestCase(2.0, 3.0, 0.5)]
    [TestCase(2.0, 0.4, 0.05)]
    public void Skipping_blocks_changes_no_bit(double alpha, double spread, double skippedShare)
    {
        EntmaxOptions options = new() { Alpha = [alpha] };
        using EntmaxDecodeResult all = Long(options, spread, skip: false);
        using EntmaxDecodeResult some = Long(options, spread, skip: true);
        Assert.Multiple(() =>
        {
            Assert.That(all.SkippedBlocks, Is.Zero);
            Assert.That(some.SkippedBlocks, Is.GreaterThan(skippedShare * some.Blocks), $"of {some.Blocks} blocks");
            Assert.That(some.Blocks, Is.EqualTo(all.Blocks));
            Assert.That(Values.Doubles(some.Output), Is.EqualTo(Values.Doubles(all.Output)));
            Assert.That(Values.Doubles(some.Tau), Is.EqualTo(Values.Doubles(all.Tau)));
            Assert.That(some.Support.AsSpan<int>().ToArray(), Is.EqualTo(all.Support.AsSpan<int>().ToArray()));
        });
    }

    [TestCase(1.5)]
    [TestCase(2.0)]
    public void Blocks_whose_bound_is_their_score_are_read_down_to_the_threshold(double alpha)
    {
        EntmaxOptions options = new() { Alpha = [alpha] };
        using EntmaxDecodeResult all = Long(options, spread: 0.5, skip: false, noise: 0, group: 16);
        using EntmaxDecodeResult some = Long(options, spread: 0.5, skip: true, noise: 0, group: 16);
        Assert.That(some.SkippedBlocks, Is.Positive);
        Assert.That(some.Support.AsSpan<int>().ToArray(), Is.EqualTo(all.Support.AsSpan<int>().ToArray()));
        Assert.That(Values.Doubles(some.Tau), Is.EqualTo(Values.Doubles(all.Tau)));
        Assert.That(Values.Doubles(some.Output), Is.EqualTo(Values.Doubles(all.Output)));
    }

    [TestCase(1.5, null)]
    [TestCase(2.0, null)]
    [TestCase(1.5, 500)]
    [TestCase(2.0, 500)]
    public void Slopes_and_windows_skip_blocks_as_well(double alpha, int? window)
    {
        EntmaxOptions options = new()
        {
            Alpha = [alpha],
            Scores = new ScoreOptions { AlibiSlopes = [0.5, 0.05, -0.05, 0], RowFactor = RowFactor.Ssmax(0.3) },
            Mask = new AttentionMask { Window = window },
        };
        using EntmaxDecodeResult all = Long(options, spread: 1, skip: false);
        using EntmaxDecodeResult some = Long(options, spread: 1, skip: true);
        Assert.Multiple(() =>
        {
            Assert.That(some.Blocks, window is null ? Is.EqualTo(8 * 100) : Is.LessThan(8 * 34), "blocks outside the window are not even bounded");
            Assert.That(some.SkippedBlocks, Is.GreaterThan(some.Blocks / 2));
            Assert.That(some.Support.AsSpan<int>().ToArray(), Is.EqualTo(all.Support.AsSpan<int>().ToArray()));
            Assert.That(Values.Doubles(some.Tau), Is.EqualTo(Values.Doubles(all.Tau)));
            Assert.That(Values.Doubles(some.Output), Is.EqualTo(Values.Doubles(all.Output)));
        });
    }

    [Test]
    public void Skipping_blocks_with_any_alpha_is_exact_to_rounding()
    {
        EntmaxOptions options = new() { Alpha = [1.3] };
        using EntmaxDecodeResult all = Long(options, spread: 3, skip: false);
        using EntmaxDecodeResult some = Long(options, spread: 3, skip: true);
        Assert.That(some.SkippedBlocks, Is.Positive);
        Assert.That(Deviation.Of(Values.Doubles(some.Output), Values.Doubles(all.Output)).Relative, Is.LessThan(1e-12));
    }

    [Test]
    public void A_key_that_is_not_a_number_is_never_skipped()
    {
        DecodeFeed feed = new() { Prompts = [200], Steps = 1, Spread = 3 };
        KeyValueCache cache = feed.Cache(paged: true, views: 1);
        double[] keys = Values.Doubles(feed.Key(0).Slice(2, 0, 200));
        keys[100 * feed.HeadDim] = double.NaN;
        cache.Append(0, Values.Tensor(keys, feed.Key(0).Shape with { Rows = 200 }), feed.Value(0).Slice(2, 0, 200));
        feed.AppendStep(cache, 0);
        using EntmaxDecodeResult result = new EntmaxAttention(AttentionDevice.Cpu).Decode(
            new DecodeInputs { Query = feed.StepQuery(0) }, cache);
        double[] output = Values.Doubles(result.Output);
        Assert.That(output.Take(2 * feed.ValueDim), Is.All.NaN, "heads of the key head with that key");
        Assert.That(output.Skip(2 * feed.ValueDim), Is.All.Not.NaN, "the other heads");
    }

    /// <summary>A step over a long sequence whose keys come in groups, so that boxes around blocks are tight.</summary>
    private static EntmaxDecodeResult Long(EntmaxOptions options, double spread, bool skip, double noise = 0.1, int group = 40)
    {
        const int Keys = 1600;
        Random random = new(3);
        HostArray<double> keys = new(new TensorShape(1, 2, Keys, 8));
        for (int h = 0; h < 2; h++)
        {
            double[] centre = [];
            for (int j = 0; j < Keys; j++)
            {
                centre = j % group == 0 ? Values.Normal(random, 8) : centre;
                double[] offset = Values.Normal(random, 8);
                for (int c = 0; c < 8; c++)
                {
                    keys.Row(0, h, j)[c] = spread * (centre[c] + (noise * offset[c]));
                }
            }
        }

        KeyValueCache cache = KeyValueCache.Paged(new KeyValueCacheLayout(1, 2, 8, 6) { Type = TensorType.Float64 }, 64, 25);
        cache.Append(0, Values.Tensor(keys), Values.Tensor(Values.Normal(random, 2 * Keys * 6), new TensorShape(1, 2, Keys, 6)));
        DecodeInputs inputs = new() { Query = Values.Tensor(Values.Normal(random, 4 * 2 * 8), new TensorShape(1, 4, 2, 8)) };
        DecodePlan plan = inputs.Plan(AttentionDevice.Reference, cache, options.Mask, options.Scores, options.Epilogue);
        return EntmaxDecode.Run<double>(AttentionDevice.Reference, options, plan, inputs, skip);
    }

    private static void Check(
        AttentionDevice device,
        bool paged,
        DecodeFeed feed,
        EntmaxOptions options,
        Func<EntmaxDecodeResult, AttentionTensor> actual,
        Func<EntmaxResult, AttentionTensor> expected)
    {
        EntmaxAttention attention = new(device, options);
        feed.Run(
            feed.Cache(paged, views: 1),
            (cache, step) => actual(attention.Decode(
                new DecodeInputs { Query = feed.StepQuery(step), Gate = feed.Step("gate", step, feed.QueryHeads, 1) }, cache)),
            sequence => expected(new EntmaxAttention(AttentionDevice.Reference, options).Forward(new AttentionInputs
            {
                Query = feed.Query(sequence),
                Key = feed.Key(sequence),
                Value = feed.Value(sequence),
                Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
            })),
            DecodeCases.Tolerance(device));
    }

    private static AttentionTensor Counts(AttentionTensor counts) =>
        Values.Tensor(Array.ConvertAll(counts.AsSpan<int>().ToArray(), n => (double)n), counts.Shape);
}
