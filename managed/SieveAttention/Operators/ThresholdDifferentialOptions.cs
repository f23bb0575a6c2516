namespace SieveAttention;

/// <summary>Parameters of <see cref="ThresholdDifferentialAttention"/>, with the defaults of the paper. Immutable.</summary>
public sealed record ThresholdDifferentialOptions
{
    /// <summary>Steepness of the threshold, finite; a negative one gives negative thresholds.</summary>
    public double Beta { get; init; } = 1;

    /// <summary>One beta a query head, finite, in place of <see cref="Beta"/>; host devices only.</summary>
    public IReadOnlyList<double>? HeadBeta { get; init; }

    /// <summary>Number of visible keys up to which the threshold stays 0, finite and greater than 0.</summary>
    public double Kappa { get; init; } = 1;

    /// <summary>Weight of the second view, finite, not clamped; 0 is the single-view operator.</summary>
    public double Lambda { get; init; }

    /// <summary>One lambda a query head, finite, in place of <see cref="Lambda"/>; host devices only.</summary>
    public IReadOnlyList<double>? HeadLambda { get; init; }

    /// <summary>Exponent of the exceedance, finite and at least 1.</summary>
    public double Power { get; init; } = 2;

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>How a CUDA device runs it.</summary>
    public KernelOptions Kernels { get; init; } = new();

    /// <summary>
    /// Images of queries and keys by which Forward on a CUDA device rules most pairs out, None or EightBits; the result is the same, bit for
    /// bit. Faster with 16384 keys of 64 channels where few pairs survive, slower with 4096, a loss where many survive; docs/kernels.md has
    /// measurements. Devices without such a kernel pass over it, decode has the screen of its cache.
    /// </summary>
    public KeyScreen Screen { get; init; }

    /// <summary>Whether a second view has a weight, so that its tensors have to be given.</summary>
    internal bool NeedsSecondView => HeadLambda is { } lambda ? lambda.Any(value => value != 0) : Lambda != 0;

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Finite(Beta, nameof(Beta));
        foreach (double beta in HeadBeta ?? [])
        {
            Guard.Finite(beta, nameof(HeadBeta));
        }

        foreach (double lambda in HeadLambda ?? [])
        {
            Guard.Finite(lambda, nameof(HeadLambda));
        }

        Guard.Positive(Kappa, nameof(Kappa));
        Guard.Finite(Lambda, nameof(Lambda));
        Guard.AtLeast(1, Power, nameof(Power));
        if (Screen is not (KeyScreen.None or KeyScreen.EightBits))
        {
            throw Guard.OutOfRange(nameof(Screen), Screen, "None, EightBits");
        }

        ArgumentNullException.ThrowIfNull(Mask);
        ArgumentNullException.ThrowIfNull(Epilogue);
        Mask.Validate();
        Epilogue.Validate();
        ArgumentNullException.ThrowIfNull(Kernels);
        Kernels.Validate();
    }

    internal ThresholdDifferentialParameters ToParameters(int queryHeads)
    {
        return new ThresholdDifferentialParameters(
            PerHead(HeadBeta, Beta, queryHeads, nameof(HeadBeta)),
            Kappa,
            PerHead(HeadLambda, Lambda, queryHeads, nameof(HeadLambda)),
            Power,
            Epilogue.ToParameters());
    }

    private static double[] PerHead(IReadOnlyList<double>? values, double common, int queryHeads, string name)
    {
        if (values is null)
        {
            return [.. Enumerable.Repeat(common, queryHeads)];
        }

        return values.Count == queryHeads
            ? [.. values]
            : throw Guard.Values(name, $"{name} has {values.Count} values; allowed: one for each of the {queryHeads} query heads.");
    }
}
