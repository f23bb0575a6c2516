namespace SieveAttention;

/// <summary>Parameters of <see cref="SoftmaxAttention"/>. Immutable.</summary>
public sealed record SoftmaxOptions
{
    /// <summary>How queries and keys become scores.</summary>
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
        OptionGuard.Shared(Scores, Mask, Epilogue);
        ArgumentNullException.ThrowIfNull(Kernels);
        Kernels.Validate();
    }
}
