namespace SieveAttention;

/// <summary>Parameters of <see cref="GroupedDifferentialAttention"/>. Immutable.</summary>
public sealed record GroupedDifferentialOptions
{
    /// <summary>
    /// Signal heads that share one noise head, at least 1. Query heads come in groups of this many signal heads and, last, their noise
    /// head.
    /// </summary>
    public int Signals { get; init; } = 1;

    /// <summary>Scale and positional slopes (one a query head) of the scores. A row factor is not accepted.</summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row; the published models do nothing.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>How a CUDA device runs it.</summary>
    public KernelOptions Kernels { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Between(1, int.MaxValue - 1, Signals, nameof(Signals));
        OptionGuard.Shared(Scores, Mask, Epilogue);
        DifferentialGuard.Scores(Scores);
        ArgumentNullException.ThrowIfNull(Kernels);
        Kernels.Validate();
    }

    internal GroupedDifferentialParameters ToParameters() => new(Signals, Epilogue.ToParameters());
}
