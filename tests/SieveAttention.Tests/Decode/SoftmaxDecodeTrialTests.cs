using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// The trials that decode kernels have to stand, stood by float32 arithmetic whose results are rounded to the type, without a GPU; small
/// mistakes fall.
/// </summary>
[TestFixture]
internal sealed class SoftmaxDecodeTrialTests
{
    private static IEnumerable<DecodeFeed> Feeds => DecodeCases.DeviceFeeds;

    [Test]
    public void Float32_arithmetic_with_rounded_results_passes([ValueSource(nameof(Feeds))] DecodeFeed feed, [Values] bool paged)
    {
        DecodeTrial trial = new(feed, TensorType.BFloat16, new SoftmaxOptions());
        trial.AssertWithin(Run(trial, feed, paged, new SoftmaxOptions()));
    }

    [Test]
    public void So_it_does_with_gate_norm_row_factors_and_window([Values] bool paged)
    {
        DecodeFeed feed = DecodeCases.GatedFeed;
        DecodeTrial trial = new(feed, TensorType.BFloat16, DecodeCases.GatedOptions, gated: true);
        trial.AssertWithin(Run(trial, feed, paged, DecodeCases.GatedOptions));
    }

    [Test]
    public void A_key_too_few_falls()
    {
        DecodeFeed feed = DecodeCases.DeviceFeeds.First();
        DecodeTrial trial = new(feed, TensorType.BFloat16, new SoftmaxOptions());
        SoftmaxOptions wrong = new() { Mask = new AttentionMask { Window = feed.Prompts[^1] } };
        Assert.That(trial.Violations(Run(trial, feed, paged: false, wrong)), Is.Not.Empty);
    }

    private static (double[] Output, double[] LogSumExp)[] Run(DecodeTrial trial, DecodeFeed feed, bool paged, SoftmaxOptions options)
    {
        KeyValueCache cache = feed.Cache(paged, views: 1, TensorType.BFloat16);
        SoftmaxAttention attention = new(AttentionDevice.Cpu, options);
        return trial.Run(
            (sequence, key, value) => cache.Append(sequence, key, value),
            (key, value) => cache.Append(key, value),
            inputs =>
            {
                SoftmaxResult result = attention.Decode(inputs, cache);
                return new SoftmaxResult(SoftmaxProblem.Rounded(result.Output, TensorType.BFloat16), result.LogSumExp);
            });
    }
}
