namespace SieveAttention.Reference;

/// <summary>
/// The selection of sparse sparse attention (arXiv 2511.20102 and its published code) in float64; nothing of it has a gradient.
/// Row i stands at t = i + offset; its own block is cb = t div bs; NC = (t + 1) div bs blocks are completely visible.
/// <code>
/// kc_b      = mean of the keys of block b
/// s_hb      = scale q_h . kc_b           b &lt; NC, h one of the G query heads of the key head
/// I_b       = sum_h exp(s_hb - logsumexp_b s_hb),  b &lt; cb;   the row's own block is always chosen
/// </code>
/// </summary>
internal static class BlockSelector
{
    internal static BlockLists Select(
        in AttentionProblem problem, SparseSparseParameters parameters, HostArray<double> q, HostArray<double> k)
    {
        int bs = parameters.BlockSize;
        BlockLists lists = new(problem, bs, parameters.BlockCount);
        HostArray<double> kc = PooledKeys(problem, bs, k);
        int group = problem.QueryHeads / problem.KeyHeads;
        double[] queries = new double[group * problem.HeadDim];
        double[] importance = new double[BlocksOf(problem, bs)];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int g = 0; g < problem.KeyHeads; g++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    for (int h = 0; h < group; h++)
                    {
                        q.Row(b, (g * group) + h, i).CopyTo(queries.AsSpan(h * problem.HeadDim));
                    }

                    long t = i + problem.QueryOffset;
                    Importance(queries, kc.Head(b, g), problem.HeadDim, t, bs, parameters.Scale, importance);
                    lists.Set(b, g, i, Choose(parameters, importance, (int)(t / bs)));
                }
            }
        }

        return lists;
    }

    /// <summary>Number of blocks, the last one may be short.</summary>
    internal static int BlocksOf(in AttentionProblem problem, int blockSize) => (int)(((long)problem.Keys + blockSize - 1) / blockSize);

    /// <summary>kc, [batch, key heads, blocks, head_dim]; a short last block is divided by its own number of keys.</summary>
    internal static HostArray<double> PooledKeys(in AttentionProblem problem, int blockSize, HostArray<double> k)
    {
        HostArray<double> pooled = new(problem.KeyShape with { Rows = BlocksOf(problem, blockSize) });
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int g = 0; g < problem.KeyHeads; g++)
            {
                for (int block = 0; block < pooled.Shape.Rows; block++)
                {
                    int first = block * blockSize;
                    int count = Math.Min(blockSize, problem.Keys - first);
                    Span<double> kc = pooled.Row(b, g, block);
                    for (int c = 0; c < kc.Length; c++)
                    {
                        for (int j = first; j < first + count; j++)
                        {
                            kc[c] += k.Row(b, g, j)[c];
                        }

                        kc[c] /= count;
                    }
                }
            }
        }

        return pooled;
    }

    /// <summary>Importance of the blocks before the row's own, summed over the heads of the group.</summary>
    /// <param name="queries">The row of each head of the group, one after the other.</param>
    /// <param name="pooled">Pooled keys of the key head.</param>
    /// <param name="headDim">Channels.</param>
    /// <param name="t">Position of the row.</param>
    /// <param name="blockSize">Keys of a block.</param>
    /// <param name="scale">Score scale.</param>
    /// <param name="importance">Receives I of the blocks 0 to t div bs - 1.</param>
    internal static void Importance(
        ReadOnlySpan<double> queries,
        ReadOnlySpan<double> pooled,
        int headDim,
        long t,
        int blockSize,
        double scale,
        Span<double> importance)
    {
        int complete = (int)((t + 1) / blockSize);
        int own = (int)(t / blockSize);
        importance[..own].Clear();
        double[] s = new double[complete];
        for (int h = 0; h < queries.Length / headDim; h++)
        {
            for (int b = 0; b < complete; b++)
            {
                s[b] = scale * UnitVectors.Dot(queries.Slice(h * headDim, headDim), pooled.Slice(b * headDim, headDim));
            }

            AddShares(s, importance[..own]);
        }
    }

    /// <summary>Adds exp(s_b - logsumexp s) of one head to the importance of the blocks before the row's own.</summary>
    internal static void AddShares(ReadOnlySpan<double> s, Span<double> importance)
    {
        double m = double.NegativeInfinity;
        foreach (double score in s)
        {
            m = Math.Max(m, score);
        }

        double sum = 0;
        foreach (double score in s)
        {
            sum += Math.Exp(score - m);
        }

        double lse = m + Math.Log(sum);
        for (int b = 0; b < importance.Length; b++)
        {
            importance[b] += Math.Exp(s[b] - lse);
        }
    }

    /// <summary>The chosen blocks of a row, in no particular order.</summary>
    /// <param name="parameters">Rule, block_size and block_count.</param>
    /// <param name="importance">I of the blocks before the row's own.</param>
    /// <param name="own">The row's own block.</param>
    internal static int[] Choose(SparseSparseParameters parameters, double[] importance, int own)
    {
        int half = parameters.BlockSize / 2;
        int chunk = parameters.BlockSize * (own / parameters.BlockSize);
        IEnumerable<int> candidates = parameters.Selection == BlockSelectionRule.Exact || chunk == 0
            ? Enumerable.Range(0, own + 1)
            : [.. Best(Enumerable.Range(0, chunk), half), .. Best(Enumerable.Range(chunk, own + 1 - chunk), half)];
        return [.. Best(candidates, parameters.BlockCount)];

        IEnumerable<int> Best(IEnumerable<int> blocks, int count) =>
            blocks.OrderByDescending(b => b == own ? double.PositiveInfinity : importance[b]).ThenBy(b => b).Take(count);
    }
}
