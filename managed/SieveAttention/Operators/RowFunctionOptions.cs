namespace SieveAttention;

/// <summary>Parameters of <see cref="RowFunctionAttention"/>. Immutable.</summary>
public sealed record RowFunctionOptions
{
    /// <summary>How weights are made of scores.</summary>
    public required RowWeights Weights { get; init; }

    /// <summary>How queries and keys become scores.</summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        ArgumentNullException.ThrowIfNull(Weights);
        Weights.Validate();
        OptionGuard.Shared(Scores, Mask, Epilogue);
    }
}
