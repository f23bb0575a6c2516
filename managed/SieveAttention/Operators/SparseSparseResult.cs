namespace SieveAttention;

/// <summary>
/// Outputs of <see cref="SparseSparseAttention"/>; those of a stream that is not computed are null. Owns its tensors. Thread-safe to read.
/// </summary>
/// <remarks>To write into own tensors, give the output of each computed stream; what else is not wanted may stay null.</remarks>
public sealed class SparseSparseResult : IDisposable
{
    /// <summary>Attention over the selected blocks, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor? SparseOutput { get; init; }

    /// <summary>Attention over all visible keys, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor? FullOutput { get; init; }

    /// <summary>L_s, natural logarithm of the sum of exponentials over the selected keys, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? SparseLogSumExp { get; init; }

    /// <summary>L_f, the same over all visible keys, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? FullLogSumExp { get; init; }

    /// <summary>The selected blocks, Int32 [B, Hkv, Tq, block_count], ascending, unused slots -1 at the end.</summary>
    public AttentionTensor? BlockIndices { get; init; }

    /// <summary>
    /// The alignment loss, [1, 1, 1, 1], with <see cref="SparseSparseMode.Both"/>: both of its terms, so twice one SmoothL1 mean, while
    /// its gradient is that of one, because of the stopped gradients.
    /// </summary>
    public AttentionTensor? AlignmentLoss { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        SparseOutput?.Dispose();
        FullOutput?.Dispose();
        SparseLogSumExp?.Dispose();
        FullLogSumExp?.Dispose();
        BlockIndices?.Dispose();
        AlignmentLoss?.Dispose();
    }
}
