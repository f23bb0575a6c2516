namespace SieveAttention;

/// <summary>
/// Which keys a query row sees. Row i stands at position p = i + offset among the keys and sees key j iff j &lt; keys, and
/// j &lt;= p where <see cref="Causal"/>, and j &gt; p - window where there is a <see cref="Window"/>. Immutable.
/// </summary>
public sealed record AttentionMask
{
    /// <summary>Largest magnitude of <see cref="QueryOffset"/>: positions stay exact in 64 bits.</summary>
    internal const long LargestOffset = 1L << 62;

    /// <summary>Whether a row sees no key after its position.</summary>
    public bool Causal { get; init; } = true;

    /// <summary>
    /// Position of query row 0, may be negative; when absent the last query row stands at the last key (keys - queries).
    /// </summary>
    public long? QueryOffset { get; init; }

    /// <summary>Number of keys up to and including its own position that a row sees, at least 1; no limit when absent.</summary>
    public int? Window { get; init; }

    /// <summary>Causal, without a window.</summary>
    public static AttentionMask CausalMask { get; } = new();

    /// <summary>Every row sees every key.</summary>
    public static AttentionMask Full { get; } = new() { Causal = false };

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        if (QueryOffset is { } offset)
        {
            Guard.Between(-LargestOffset, LargestOffset, offset, nameof(QueryOffset));
        }

        if (Window is { } window)
        {
            Guard.Between(1, int.MaxValue, window, nameof(Window));
        }
    }
}
