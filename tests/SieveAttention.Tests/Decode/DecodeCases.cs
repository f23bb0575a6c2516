using NUnit.Framework;

namespace SieveAttention.Tests.Decode;

/// <summary>What every operator's decode is compared with its prefill on: device, form of the cache, one or several new rows.</summary>
internal static class DecodeCases
{
    /// <summary>Device, whether the cache is paged, new rows of a step.</summary>
    public static IEnumerable<TestCaseData> All
    {
        get
        {
            foreach (AttentionDevice device in (AttentionDevice[])[AttentionDevice.Reference, AttentionDevice.Cpu])
            {
                foreach (bool paged in (bool[])[false, true])
                {
                    foreach (int rows in (int[])[1, 3])
                    {
                        yield return new TestCaseData(device, paged, rows)
                            .SetArgDisplayNames(device.Name, paged ? "paged" : "contiguous", $"{rows} rows");
                    }
                }
            }
        }
    }

    /// <summary>
    /// What decode kernels are tried on, at a head_dim that every one of them has: a first key, steps across the end of a page, several new
    /// rows, groups of heads from 1 to 8.
    /// </summary>
    public static IEnumerable<DecodeFeed> DeviceFeeds =>
    [
        new DecodeFeed { Prompts = [0, 63, 300], Steps = 5, HeadDim = 64, ValueDim = 64 },
        new DecodeFeed { Prompts = [0, 17, 70], Steps = 3, Rows = 3, HeadDim = 64, ValueDim = 64 },
        new DecodeFeed { Prompts = [120, 900], Steps = 3, QueryHeads = 8, KeyHeads = 1, HeadDim = 64, ValueDim = 64 },
        new DecodeFeed { Prompts = [1, 500], Steps = 3, QueryHeads = 2, KeyHeads = 2, HeadDim = 64, ValueDim = 64 },
    ];

    /// <summary>With <see cref="GatedOptions"/>: everything that belongs to rows.</summary>
    public static DecodeFeed GatedFeed => new() { Prompts = [30, 257], Steps = 3, Rows = 2, HeadDim = 64, ValueDim = 64 };

    public static SoftmaxOptions GatedOptions { get; } = new()
    {
        Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-4, OutputScale = 0.7 },
        Scores = new ScoreOptions { RowFactor = RowFactor.Ssmax(0.4) },
        Mask = new AttentionMask { Window = 100 },
    };

    /// <summary>Two views; about one key in ten survives: values count, and so do thresholds.</summary>
    public static ThresholdDifferentialOptions ThresholdOptions { get; } = new() { Beta = 0.35, Lambda = 0.5 };

    /// <summary>With <see cref="GatedFeed"/>: everything that belongs to rows.</summary>
    public static ThresholdDifferentialOptions GatedThresholdOptions { get; } = new()
    {
        Beta = 0.3,
        Lambda = -0.7,
        Kappa = 3,
        Power = 1.5,
        Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-4, OutputScale = 0.7 },
        Mask = new AttentionMask { Window = 100 },
    };

    /// <summary>Against the Reference device's prefill, relative to the largest output of the sequence.</summary>
    public static double Tolerance(AttentionDevice device) => device.Kind == AttentionDeviceKind.Reference ? 1e-12 : 2e-5;
}
