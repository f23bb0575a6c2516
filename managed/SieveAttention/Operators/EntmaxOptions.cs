namespace SieveAttention;

/// <summary>Parameters of <see cref="EntmaxAttention"/>. Immutable.</summary>
public sealed record EntmaxOptions
{
    /// <summary>
    /// Alpha, greater than 1 and at most 2: one value for all heads or one for each query head. 1.5 by default; 2 is sparsemax; towards
    /// 1 the weights approach softmax and the gradient of alpha becomes singular: clamp a learned alpha at about 1.05.
    /// </summary>
    public IReadOnlyList<double> Alpha { get; init; } = [1.5];

    /// <summary>How queries and keys become scores.</summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        OptionGuard.HeadValues(Alpha, nameof(Alpha));
        foreach (double alpha in Alpha)
        {
            if (!(alpha > 1 && alpha <= 2))
            {
                throw Guard.OutOfRange(nameof(Alpha), alpha, "a number greater than 1 and at most 2");
            }
        }

        OptionGuard.Shared(Scores, Mask, Epilogue);
    }
}
