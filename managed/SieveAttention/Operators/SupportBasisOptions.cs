namespace SieveAttention;

/// <summary>Parameters of <see cref="SupportBasisAttention"/>. Immutable.</summary>
public sealed record SupportBasisOptions
{
    /// <summary>
    /// Largest bound of a tile's scores at which the polynomial is used, at least 0; 0 makes every tile exact that can have a score.
    /// </summary>
    public required double Bound { get; init; }

    /// <summary>Degree of the Taylor polynomial, 1 or 2. Degree 1 is negative for scores below -1.</summary>
    public int Degree { get; init; } = 2;

    /// <summary>Rows of queries and of keys in a tile, at least 1.</summary>
    public int Tile { get; init; } = 64;

    /// <summary>
    /// How queries and keys become scores. Linear biases are refused: a bound by norms does not cover them. Row factors take part in
    /// the bound as if they were multiplied into the queries.
    /// </summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.AtLeast(0, Bound, nameof(Bound));
        Guard.Between(1, 2, Degree, nameof(Degree));
        Guard.Between(1, int.MaxValue, Tile, nameof(Tile));
        OptionGuard.Shared(Scores, Mask, Epilogue);
        if (Scores.AlibiSlopes is { } slopes)
        {
            throw Guard.Values(
                nameof(ScoreOptions.AlibiSlopes),
                $"AlibiSlopes has {slopes.Count} values; allowed: none, because support-basis attention bounds scores by norms.");
        }
    }
}
