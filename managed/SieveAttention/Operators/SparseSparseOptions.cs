using System.Numerics;

namespace SieveAttention;

/// <summary>Parameters of <see cref="SparseSparseAttention"/>; the paper's model has 16 blocks of 16 keys. Immutable.</summary>
public sealed record SparseSparseOptions
{
    /// <summary>Keys of a block, at least 1.</summary>
    public required int BlockSize { get; init; }

    /// <summary>Blocks that a row attends to, its own among them, at least 1.</summary>
    public required int BlockCount { get; init; }

    /// <summary>How blocks are chosen by their importance.</summary>
    public BlockSelectionRule Selection { get; init; } = BlockSelectionRule.Exact;

    /// <summary>Which outputs are computed.</summary>
    public SparseSparseMode Stream { get; init; } = SparseSparseMode.Sparse;

    /// <summary>Which outputs the alignment loss compares.</summary>
    public AlignmentPlacement Alignment { get; init; } = AlignmentPlacement.Gated;

    /// <summary>
    /// Backward adds the gradient of this weight times the alignment loss, whatever the stream; finite and at least 0. In training it is
    /// the loss' factor (10 in the paper) divided by the number of layers.
    /// </summary>
    public double AlignmentWeight { get; init; }

    /// <summary>The scale of the scores; a row factor and ALiBi slopes are not defined for this operator and refused.</summary>
    public ScoreOptions Scores { get; init; } = new();

    /// <summary>The query offset; only causal attention without a window is defined.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to the output rows of either stream.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Between(1, int.MaxValue, BlockSize, nameof(BlockSize));
        Guard.Between(1, int.MaxValue, BlockCount, nameof(BlockCount));
        Guard.Defined(Selection, nameof(Selection));
        Guard.Defined(Stream, nameof(Stream));
        Guard.Defined(Alignment, nameof(Alignment));
        Guard.AtLeast(0, AlignmentWeight, nameof(AlignmentWeight));
        if (Selection == BlockSelectionRule.Released)
        {
            if (BlockSize < 2 || !BitOperations.IsPow2(BlockSize))
            {
                throw Guard.OutOfRange(nameof(BlockSize), BlockSize, "a power of two from 2 on, because Selection is Released");
            }

            if (BlockCount > BlockSize)
            {
                throw Guard.OutOfRange(nameof(BlockCount), BlockCount, $"1 to {BlockSize} (BlockSize), because Selection is Released");
            }
        }

        ArgumentNullException.ThrowIfNull(Scores);
        ArgumentNullException.ThrowIfNull(Mask);
        ArgumentNullException.ThrowIfNull(Epilogue);
        Scores.Validate();
        Mask.Validate();
        Epilogue.Validate();
        ValidateMeaning();
    }

    internal SparseSparseParameters ToParameters(in AttentionProblem problem) => new(
        BlockSize,
        BlockCount,
        Selection,
        Stream,
        Alignment,
        AlignmentWeight,
        Scores.Scale ?? (1 / Math.Sqrt(problem.HeadDim)),
        Epilogue.ToParameters());

    /// <summary>Refuses what other operators have and this one does not.</summary>
    private void ValidateMeaning()
    {
        if (Scores.RowFactor.Kind != RowFactorKind.None)
        {
            throw Guard.OutOfRange(nameof(Scores.RowFactor), Scores.RowFactor.Kind, "None; sparse sparse attention has no row factor");
        }

        if (Scores.AlibiSlopes is { } slopes)
        {
            throw Guard.OutOfRange(
                nameof(Scores.AlibiSlopes), $"[{string.Join(", ", slopes)}]", "absent; sparse sparse attention has no linear penalty");
        }

        if (!Mask.Causal)
        {
            throw Guard.OutOfRange(nameof(Mask.Causal), Mask.Causal, "true; sparse sparse attention is causal");
        }

        if (Mask.Window is { } window)
        {
            throw Guard.OutOfRange(nameof(Mask.Window), window, "absent; sparse sparse attention has no window");
        }
    }
}
