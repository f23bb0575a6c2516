using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// The trials that decode kernels of threshold differential attention have to stand, stood by float32 arithmetic whose results are rounded to
/// the type, without a GPU; small mistakes fall.
/// </summary>
[TestFixture]
internal sealed class ThresholdDecodeTrialTests
{
    private static IEnumerable<DecodeFeed> Feeds => DecodeCases.DeviceFeeds;

    [Test]
    public void Float32_arithmetic_with_rounded_results_passes([ValueSource(nameof(Feeds))] DecodeFeed feed, [Values] bool paged)
    {
        ThresholdDecodeTrial trial = new(feed, TensorType.BFloat16, DecodeCases.ThresholdOptions);
        Assert.That(trial.Violations(Run(trial, feed, paged, DecodeCases.ThresholdOptions)), Is.Empty);
    }

    [Test]
    public void So_it_does_with_gate_norm_and_window([Values] bool paged)
    {
        ThresholdDecodeTrial trial = new(DecodeCases.GatedFeed, TensorType.BFloat16, DecodeCases.GatedThresholdOptions, gated: true);
        Assert.That(trial.Violations(Run(trial, DecodeCases.GatedFeed, paged, DecodeCases.GatedThresholdOptions)), Is.Empty);
    }

    [Test]
    public void The_threshold_of_another_row_falls()
    {
        DecodeFeed feed = DecodeCases.DeviceFeeds.First();
        ThresholdDecodeTrial trial = new(feed, TensorType.BFloat16, DecodeCases.ThresholdOptions);
        ThresholdDifferentialOptions wrong = DecodeCases.ThresholdOptions with { Kappa = 1.05 };
        Assert.That(trial.Violations(Run(trial, feed, paged: false, wrong)), Is.Not.Empty);
    }

    [Test]
    public void A_key_too_few_falls()
    {
        DecodeFeed feed = DecodeCases.DeviceFeeds.First();
        ThresholdDecodeTrial trial = new(feed, TensorType.BFloat16, DecodeCases.ThresholdOptions);
        ThresholdDifferentialOptions wrong = DecodeCases.ThresholdOptions with { Mask = new AttentionMask { Window = feed.Prompts[^1] } };
        Assert.That(trial.Violations(Run(trial, feed, paged: false, wrong)), Is.Not.Empty);
    }

    private static DecodedThreshold[] Run(ThresholdDecodeTrial trial, DecodeFeed feed, bool paged, ThresholdDifferentialOptions options)
    {
        KeyValueCache cache = feed.Cache(paged, views: 2, TensorType.BFloat16);
        ThresholdDifferentialAttention attention = new(AttentionDevice.Cpu, options);
        return trial.Run(
            (sequence, key1, value, key2) => cache.Append(sequence, key1, value, key2),
            (key1, value, key2) => cache.Append(key1, value, key2),
            inputs =>
            {
                ThresholdDifferentialResult result = attention.Decode(inputs, cache);
                return new ThresholdDifferentialResult(
                    SoftmaxProblem.Rounded(result.Output, TensorType.BFloat16), result.Survivors1, result.Survivors2);
            });
    }
}
