using System.Numerics;

namespace SieveAttention;

/// <summary>Parameters of sparse sparse attention as the host implementations take them; see <see cref="SparseSparseOptions"/>.</summary>
internal sealed record SparseSparseParameters(
    int BlockSize,
    int BlockCount,
    BlockSelectionRule Selection,
    SparseSparseMode Stream,
    AlignmentPlacement Alignment,
    double AlignmentWeight,
    double Scale,
    EpilogueParameters Epilogue)
{
    /// <summary>Whether the forward pass returns the sparse stream.</summary>
    internal bool WantsSparse => Stream != SparseSparseMode.Full;

    /// <summary>Whether the forward pass returns the full stream.</summary>
    internal bool WantsFull => Stream != SparseSparseMode.Sparse;
}

/// <summary>Tensors of sparse sparse attention as the host implementations take them.</summary>
/// <param name="Query">[batch, query heads, queries, head_dim].</param>
/// <param name="Key">[batch, key heads, keys, head_dim].</param>
/// <param name="Value">[batch, key heads, keys, value_dim].</param>
/// <param name="NormGain">[value_dim]; null = ones.</param>
/// <param name="Gate">[batch, query heads, queries, 1]; null = no gate.</param>
/// <param name="Blocks">The caller's own selection; null = select by importance.</param>
internal sealed record SparseSparseArrays<T>(
    HostArray<T> Query, HostArray<T> Key, HostArray<T> Value, T[]? NormGain, HostArray<T>? Gate, BlockLists? Blocks)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>One stream of the forward pass.</summary>
/// <param name="Output">Before the epilogue, [batch, query heads, queries, value_dim].</param>
/// <param name="LogSumExp">[batch, query heads, queries].</param>
internal sealed record SparseSparseOutput<T>(HostArray<T> Output, T[] LogSumExp)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the forward pass.</summary>
/// <param name="Sparse">Attention over the selected blocks; null where it is not wanted.</param>
/// <param name="Full">Attention over all visible keys; null where it is not wanted.</param>
/// <param name="Blocks">The selection; null without the sparse stream.</param>
internal sealed record SparseSparseForward<T>(SparseSparseOutput<T>? Sparse, SparseSparseOutput<T>? Full, BlockLists? Blocks)
    where T : unmanaged, IFloatingPointIeee754<T>;

/// <summary>What the host implementations return from the backward pass; absent inputs have no gradient.</summary>
internal sealed record SparseSparseBackward<T>(
    HostArray<T> Query, HostArray<T> Key, HostArray<T> Value, T[]? NormGain, HostArray<T>? Gate)
    where T : unmanaged, IFloatingPointIeee754<T>;
