namespace SieveAttention.Tests.Support;

/// <summary>Random masks.</summary>
internal static class Masks
{
    /// <summary>Any mask, also one under which some rows see no key.</summary>
    public static AttentionMask Random(Random random, int keys) => new()
    {
        Causal = random.Next(3) > 0,
        QueryOffset = random.Next(2) == 0 ? null : random.Next(-3, keys + 2),
        Window = random.Next(2) == 0 ? null : random.Next(1, 6),
    };
}
