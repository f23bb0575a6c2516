using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Problems that every softmax kernel has to solve; head_dim and type are chosen by the test.</summary>
internal static class SoftmaxKernelCases
{
    private static readonly int[] s_short = [1, 17, 63, 64, 65, 113, 127, 128, 129, 239];

    private static readonly (int Queries, int Keys)[] s_unequal =
        [(1, 239), (113, 203), (239, 1), (299, 3), (3, 299), (130, 512), (512, 130)];

    private static readonly OneViewCase s_middle = new("middle") { Queries = 239, Keys = 239 };

    private static readonly OneViewCase s_small = s_middle with { Queries = 150, Keys = 170 };

    /// <summary>All of them also have gradients, except those with a norm.</summary>
    public static IEnumerable<OneViewCase> All =>
    [
        .. s_short.Select(length => s_middle with { Name = $"length {length}", Queries = length, Keys = length }),
        .. s_unequal.Select(pair =>
            s_middle with { Name = $"{pair.Queries} queries, {pair.Keys} keys", Queries = pair.Queries, Keys = pair.Keys }),
        s_small with { Name = "batch of 3", Batch = 3 },
        s_small with { Name = "4 query heads a key head", QueryHeads = 8, KeyHeads = 2 },
        s_small with { Name = "8 query heads a key head", QueryHeads = 8, KeyHeads = 1 },
        Masked("not causal", AttentionMask.Full),
        Masked("window smaller than a tile", new AttentionMask { Window = 5 }),
        Masked("window of 100", new AttentionMask { Window = 100 }),
        Masked("window, not causal", new AttentionMask { Causal = false, Window = 70 }),
        Masked("negative offset", new AttentionMask { QueryOffset = -100 }),
        Masked("every row without keys", new AttentionMask { QueryOffset = -170 }),
        Masked("positive offset", new AttentionMask { QueryOffset = 40 }),
        Masked("window beyond the keys", new AttentionMask { QueryOffset = 1000, Window = 30 }),
        s_small with { Name = "scale", Scale = 0.31 },
        s_small with { Name = "large scores", Spread = 30 },
        s_small with { Name = "ssmax", RowFactorKind = RowFactorKind.Ssmax },
        s_small with { Name = "ssmax of each head", RowFactorKind = RowFactorKind.Ssmax, ParametersPerHead = true },
        s_small with { Name = "asentmax", RowFactorKind = RowFactorKind.Asentmax },
        s_small with
        {
            Name = "asentmax of each head, grouped heads",
            RowFactorKind = RowFactorKind.Asentmax,
            ParametersPerHead = true,
            QueryHeads = 4,
        },
        s_small with { Name = "constant row factor", RowFactorKind = RowFactorKind.Constant },
        s_small with { Name = "constant row factor of each head", RowFactorKind = RowFactorKind.Constant, ParametersPerHead = true },
        s_small with { Name = "own row factors", RowFactorKind = RowFactorKind.PerRow, Batch = 2 },
        s_small with { Name = "gate", Gate = true },
        s_small with { Name = "output scale", Epilogue = new OutputEpilogue { OutputScale = 0.6 } },
        s_small with
        {
            Name = "gate, output scale, row factors, window, grouped heads",
            Gate = true,
            Epilogue = new OutputEpilogue { OutputScale = 1.7 },
            RowFactorKind = RowFactorKind.PerRow,
            Mask = new AttentionMask { Window = 90 },
            QueryHeads = 4,
        },
        s_small with { Name = "norm", Epilogue = Norm },
        s_small with { Name = "norm, gain and gate", Epilogue = Norm, Gain = true, Gate = true },
    ];

    /// <summary>The lengths at which references take seconds: for some sizes only.</summary>
    public static IEnumerable<OneViewCase> Long =>
    [
        .. ((int[])[799, 1023, 1024, 4224]).Select(length =>
            s_middle with { Name = $"length {length}", Queries = length, Keys = length, QueryHeads = 1, KeyHeads = 1 }),
    ];

    /// <summary>A few that see every part of a kernel, for the many sizes.</summary>
    public static IEnumerable<OneViewCase> Few => All.Where(test => test.Name is
        "length 1" or "length 129" or "113 queries, 203 keys" or "4 query heads a key head" or "not causal" or "window of 100"
        or "gate, output scale, row factors, window, grouped heads");

    private static OutputEpilogue Norm => new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.8 };

    private static OneViewCase Masked(string name, AttentionMask mask) => s_small with { Name = name, Mask = mask };
}
