namespace SieveAttention;

/// <summary>
/// Parameters of <see cref="DifferentialAttention"/>. Lambda is given finished, as <see cref="Lambda"/>, or is computed from
/// <see cref="LambdaInit"/> and the vectors that come with the inputs. Immutable.
/// </summary>
/// <remarks>
/// A layer of the published models has LambdaInit = 0.8 - 0.6 exp(-0.3 depth), depth counted from 0, an RMSNorm with epsilon 1e-5, and an
/// output scale of 1 - LambdaInit. None of the three is derived from another: models number their layers differently.
/// </remarks>
public sealed record DifferentialOptions
{
    /// <summary>
    /// Weight of the second view, finite, not clamped: one value for all heads, or one a query head. Required where the inputs have no
    /// lambda vectors; beside them it has to be one value that agrees with theirs to 1e-4.
    /// </summary>
    public IReadOnlyList<double>? Lambda { get; init; }

    /// <summary>
    /// The constant term of a lambda from vectors, finite; given exactly where the inputs have lambda vectors. Has no gradient.
    /// </summary>
    public double? LambdaInit { get; init; }

    /// <summary>Scale and positional slopes of the scores, the same for both views. A row factor is not accepted.</summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>How a CUDA device runs it.</summary>
    public KernelOptions Kernels { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        if (Lambda is { } lambda)
        {
            Guard.Between(1, int.MaxValue, lambda.Count, $"{nameof(Lambda)}.{nameof(lambda.Count)}");
            foreach (double value in lambda)
            {
                Guard.Finite(value, nameof(Lambda));
            }
        }
        else if (LambdaInit is null)
        {
            throw Guard.OutOfRange(
                nameof(Lambda), "absent", "one finite number, or one for each query head; or LambdaInit with the inputs' LambdaVectors");
        }

        if (LambdaInit is { } init)
        {
            Guard.Finite(init, nameof(LambdaInit));
        }

        OptionGuard.Shared(Scores, Mask, Epilogue);
        DifferentialGuard.Scores(Scores);
        ArgumentNullException.ThrowIfNull(Kernels);
        Kernels.Validate();
    }
}
