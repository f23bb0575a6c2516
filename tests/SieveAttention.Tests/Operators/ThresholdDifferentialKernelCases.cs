using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Problems that every threshold differential kernel has to solve; head_dim and type are chosen by the test.</summary>
internal static class ThresholdDifferentialKernelCases
{
    private static readonly int[] s_lengths = [1, 17, 63, 64, 65, 113, 127, 129, 239, 799, 1023, 1024];

    private static readonly (int Queries, int Keys)[] s_unequal =
        [(1, 239), (113, 203), (239, 1), (799, 3), (3, 799), (130, 1024), (1024, 130)];

    // About one key in ten survives: dense enough that every tile counts, sparse enough that thresholds matter.
    private static readonly ThresholdDifferentialOptions s_options = new() { Beta = 0.35, Lambda = 0.5 };

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.8 };

    private static readonly ThresholdCase s_middle = new("middle") { Queries = 239, Keys = 239, Options = s_options };

    public static IEnumerable<ThresholdCase> All =>
    [
        .. s_lengths.Select(length =>
            s_middle with { Name = $"length {length}", Queries = length, Keys = length }),
        .. s_unequal.Select(pair =>
            s_middle with { Name = $"{pair.Queries} queries, {pair.Keys} keys", Queries = pair.Queries, Keys = pair.Keys }),
        s_middle with { Name = "batch of 3", Batch = 3 },
        s_middle with { Name = "4 query heads a key head", QueryHeads = 8, KeyHeads = 2 },
        s_middle with { Name = "8 query heads a key head", QueryHeads = 8, KeyHeads = 1 },
        s_middle with { Name = "16 query heads a key head", Batch = 2, QueryHeads = 16, KeyHeads = 1, Queries = 65, Keys = 65 },
        With("not causal", s_options with { Mask = AttentionMask.Full }),
        With("window smaller than a tile", s_options with { Mask = new AttentionMask { Window = 5 } }),
        With("window of 100", s_options with { Mask = new AttentionMask { Window = 100 } }),
        With("window, not causal", s_options with { Mask = new AttentionMask { Causal = false, Window = 70 } }),
        With("negative offset", s_options with { Mask = new AttentionMask { QueryOffset = -100 } }),
        With("every row without keys", s_options with { Mask = new AttentionMask { QueryOffset = -239 } }),
        With("positive offset", s_options with { Mask = new AttentionMask { QueryOffset = 40 } }),
        With("window beyond the keys", s_options with { Mask = new AttentionMask { QueryOffset = 1000, Window = 30 } }),
        With("power 1", s_options with { Power = 1 }),
        With("power 3", s_options with { Power = 3 }),
        With("power 2.5", s_options with { Power = 2.5 }),
        With("power 1.5", s_options with { Power = 1.5 }),
        With("norm", s_options with { Epilogue = s_norm }),
        With("output scale", s_options with { Epilogue = new OutputEpilogue { OutputScale = -3 } }),
        With("norm and gain", s_options with { Epilogue = s_norm }) with { Gain = true },
        s_middle with { Name = "gate", Gate = true },
        With("norm, gain and gate", s_options with { Epilogue = s_norm }) with { Gain = true, Gate = true },
        With("lambda 0 with a second view", s_options with { Lambda = 0 }),
        With("one view", s_options with { Lambda = 0 }) with { SecondView = false },
        With("negative lambda", s_options with { Lambda = -0.7 }),
        With("large lambda", s_options with { Lambda = 12 }),
        With("kappa 20", s_options with { Kappa = 20 }),
        With("beta 0", s_options with { Beta = 0 }),
        With("negative beta", s_options with { Beta = -0.2 }),
        With("beta 1: rows without survivors", s_options with { Beta = 1 }),
        With("huge beta: only the row with a single key survives", s_options with { Beta = 1e4 }),
        With("huge beta and kappa below 1: nothing survives", s_options with { Beta = 1e4, Kappa = 0.5 }),
    ];

    private static ThresholdCase With(string name, ThresholdDifferentialOptions options) =>
        s_middle with { Name = name, Options = options };
}
