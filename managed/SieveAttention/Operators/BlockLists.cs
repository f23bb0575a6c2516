namespace SieveAttention;

/// <summary>
/// The selected blocks of every query row of every key head, [batch, key heads, queries, block_count]: ascending, unused slots -1 at the
/// end. Block b holds the keys block_size b up to block_size (b + 1) or the end of the keys.
/// </summary>
internal sealed class BlockLists
{
    private readonly AttentionProblem _problem;

    internal BlockLists(in AttentionProblem problem, int blockSize, int blockCount)
    {
        _problem = problem;
        BlockSize = blockSize;
        BlockCount = blockCount;
        long count = ShapeOf(problem, blockCount).Count;
        if (count > Array.MaxLength)
        {
            throw new NotSupportedException(
                $"BlockCount {blockCount} makes {count} block indices; host computation takes at most {Array.MaxLength}. " +
                "Split the batch or the heads into several calls.");
        }

        Indices = new int[count];
    }

    internal int BlockSize { get; }

    internal int BlockCount { get; }

    internal int[] Indices { get; }

    /// <summary>The list of a row.</summary>
    internal Span<int> Row(int batch, int keyHead, int row) =>
        Indices.AsSpan(((((batch * _problem.KeyHeads) + keyHead) * _problem.Queries) + row) * BlockCount, BlockCount);

    /// <summary>The list of a row without its unused slots.</summary>
    internal ReadOnlySpan<int> Used(int batch, int keyHead, int row)
    {
        ReadOnlySpan<int> list = Row(batch, keyHead, row);
        int unused = list.IndexOf(-1);
        return unused < 0 ? list : list[..unused];
    }

    /// <summary>The visible keys of a selected block.</summary>
    internal KeyRange Keys(int row, int block)
    {
        int first = block * BlockSize;
        return new KeyRange(first, (int)Math.Min((long)first + BlockSize, _problem.Visible(row).End));
    }

    /// <summary>Writes blocks in any order as a row's list.</summary>
    internal void Set(int batch, int keyHead, int row, ReadOnlySpan<int> blocks)
    {
        Span<int> list = Row(batch, keyHead, row);
        blocks.CopyTo(list);
        list[..blocks.Length].Sort();
        list[blocks.Length..].Fill(-1);
    }

    internal static TensorShape ShapeOf(in AttentionProblem problem, int blockCount) =>
        new(problem.Batch, problem.KeyHeads, problem.Queries, blockCount);

    /// <summary>Reads a caller's selection: any order, -1 for unused slots; checks that each block is visible and there once.</summary>
    internal static BlockLists Read(in AttentionProblem problem, int blockSize, AttentionTensor tensor, string name)
    {
        BlockLists lists = new(problem, blockSize, tensor.Shape.Channels);
        ElementConversion.Copy(
            tensor.HostElements<int>(), tensor.Strides, tensor.Shape, lists.Indices, TensorStrides.Contiguous(tensor.Shape));
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int g = 0; g < problem.KeyHeads; g++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    lists.Normalize(b, g, i, name);
                }
            }
        }

        return lists;
    }

    private void Normalize(int batch, int keyHead, int row, string name)
    {
        Span<int> list = Row(batch, keyHead, row);
        int own = (int)((row + _problem.QueryOffset) / BlockSize);
        list.Sort();
        int unused = list.LastIndexOf(-1) + 1;
        for (int n = 0; n < list.Length; n++)
        {
            if (list[n] < -1 || list[n] > own)
            {
                throw Guard.Tensor(
                    name,
                    $"{name}[{batch}, {keyHead}, {row}] has block {list[n]}; allowed: 0 to {own}, the blocks that row {row} sees, or -1.");
            }

            if (n > unused && list[n] == list[n - 1])
            {
                throw Guard.Tensor(name, $"{name}[{batch}, {keyHead}, {row}] has block {list[n]} twice; allowed: each block once.");
            }
        }

        list[unused..].CopyTo(list);
        list[^unused..].Fill(-1);
    }
}
