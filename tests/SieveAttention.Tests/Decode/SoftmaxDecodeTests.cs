using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class SoftmaxDecodeTests
{
    private static readonly SoftmaxOptions s_everything = new()
    {
        Scores = new ScoreOptions { Scale = 0.4, RowFactor = RowFactor.Ssmax(0.5, 0.2, -0.1, 0.7), AlibiSlopes = [0, 0.1, 0.5, -0.01] },
        Mask = new AttentionMask { Window = 15 },
        Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-5 },
    };

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, new SoftmaxOptions());

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void With_row_factors_slopes_window_norm_and_gate(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, s_everything);

    [Test]
    public void Factors_given_by_the_caller() => Check(
        AttentionDevice.Reference,
        paged: true,
        new DecodeFeed { Rows = 2 },
        new SoftmaxOptions { Scores = new ScoreOptions { RowFactor = RowFactor.PerRow } });

    [TestCase(TensorType.Float16)]
    [TestCase(TensorType.BFloat16)]
    public void A_narrow_cache_computes_with_its_rounded_keys(TensorType type)
    {
        DecodeFeed feed = new() { Prompts = [40], Steps = 1 };
        AttentionTensor query = feed.StepQuery(0);
        double[][] outputs = new double[2][];
        foreach (TensorType kept in (TensorType[])[type, TensorType.Float64])
        {
            KeyValueCache cache = feed.Cache(paged: true, views: 1, kept);
            double[] keys = Array.ConvertAll(Values.Doubles(feed.Key(0)), k => Values.Round(k, type));
            double[] values = Array.ConvertAll(Values.Doubles(feed.Value(0)), v => Values.Round(v, type));
            cache.Append(0, Values.Tensor(keys, feed.Key(0).Shape), Values.Tensor(values, feed.Value(0).Shape));
            outputs[kept == type ? 0 : 1] = Values.Doubles(
                new SoftmaxAttention(AttentionDevice.Reference).Decode(new DecodeInputs { Query = query }, cache).Output);
        }

        Assert.That(outputs[0], Is.EqualTo(outputs[1]));
    }

    [Test]
    public void Every_key_is_seen_without_a_causal_mask()
    {
        DecodeFeed feed = new() { Prompts = [12], Steps = 1, Rows = 3 };
        KeyValueCache cache = feed.Cache(paged: true, views: 1);
        feed.AppendPrompts(cache);
        SoftmaxOptions options = new() { Mask = AttentionMask.Full };
        using SoftmaxResult result = new SoftmaxAttention(AttentionDevice.Cpu, options).Decode(
            new DecodeInputs { Query = feed.StepQuery(0) }, cache);
        using SoftmaxResult expected = new SoftmaxAttention(AttentionDevice.Reference, options).Forward(new AttentionInputs
        {
            Query = feed.StepQuery(0),
            Key = feed.Key(0).Slice(2, 0, 12),
            Value = feed.Value(0).Slice(2, 0, 12),
        });
        Assert.That(Deviation.Of(Values.Doubles(result.Output), Values.Doubles(expected.Output)).Relative, Is.LessThan(1e-5));
    }

    [Test]
    public void A_row_without_keys_gives_0_and_minus_infinity()
    {
        DecodeFeed feed = new();
        SoftmaxAttention attention = new(AttentionDevice.Cpu, new SoftmaxOptions { Mask = AttentionMask.Full });
        using SoftmaxResult result = attention.Decode(new DecodeInputs { Query = feed.StepQuery(0) }, feed.Cache(paged: true, views: 1));
        Assert.That(Values.Doubles(result.Output), Is.All.Zero);
        Assert.That(Values.Doubles(result.LogSumExp), Is.All.EqualTo(double.NegativeInfinity));
    }

    [Test]
    public void A_missing_tensor_of_row_factors_is_refused()
    {
        DecodeFeed feed = new();
        SoftmaxOptions options = new() { Scores = new ScoreOptions { RowFactor = RowFactor.PerRow }, Mask = AttentionMask.Full };
        Assert.That(
            () => new SoftmaxAttention(AttentionDevice.Cpu, options).Decode(
                new DecodeInputs { Query = feed.StepQuery(0) }, feed.Cache(paged: true, views: 1)),
            Throws.ArgumentException.With.Message.Contains("RowFactors is absent and RowFactor is PerRow"));
    }

    private static void Check(AttentionDevice device, bool paged, DecodeFeed feed, SoftmaxOptions options)
    {
        foreach (bool logarithms in (bool[])[false, true])
        {
            SoftmaxAttention attention = new(device, options);
            bool perRow = options.Scores.RowFactor.Kind == RowFactorKind.PerRow;
            feed.Run(
                feed.Cache(paged, views: 1),
                (cache, step) =>
                {
                    SoftmaxResult result = attention.Decode(
                        new DecodeInputs
                        {
                            Query = feed.StepQuery(step),
                            Gate = feed.Step("gate", step, feed.QueryHeads, 1),
                            RowFactors = perRow ? feed.Step("factors", step, feed.QueryHeads, 1) : null,
                        },
                        cache);
                    return logarithms ? result.LogSumExp : result.Output;
                },
                sequence =>
                {
                    SoftmaxResult result = new SoftmaxAttention(AttentionDevice.Reference, options).Forward(new AttentionInputs
                    {
                        Query = feed.Query(sequence),
                        Key = feed.Key(sequence),
                        Value = feed.Value(sequence),
                        Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
                        RowFactors = perRow ? feed.Whole("factors", sequence, feed.QueryHeads, 1) : null,
                    });
                    return logarithms ? result.LogSumExp : result.Output;
                },
                DecodeCases.Tolerance(device));
        }
    }
}
