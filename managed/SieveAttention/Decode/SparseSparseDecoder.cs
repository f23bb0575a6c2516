using System.Numerics;
using System.Numerics.Tensors;
using SieveAttention.Reference;

namespace SieveAttention.Decoding;

/// <summary>
/// The sparse stream of sparse sparse attention for new rows over a cache: each row of each key head scores the pooled keys of the complete
/// blocks, which the cache keeps, chooses its blocks, and reads the keys and values of these only.
/// </summary>
internal sealed class SparseSparseDecoder<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DecodePlan _plan;
    private readonly SparseSparseParameters _parameters;
    private readonly KeySummary _pooled;
    private readonly SoftmaxRows<T> _softmax;

    internal SparseSparseDecoder(DecodePlan plan, SparseSparseParameters parameters, DecodeScores<T> scores)
    {
        _plan = plan;
        _parameters = parameters;
        _pooled = plan.Cache.Summary(new PooledKeys(parameters.BlockSize), 0, plan.Sequences);
        _softmax = new SoftmaxRows<T>(plan, scores, pieces: 1);
        Blocks = new BlockLists(plan.Sizes, parameters.BlockSize, parameters.BlockCount);
    }

    /// <summary>Output before the epilogue.</summary>
    internal HostArray<T> X => _softmax.X;

    internal HostArray<T> LogSumExp => _softmax.LogSumExp;

    /// <summary>The chosen blocks.</summary>
    internal BlockLists Blocks { get; }

    /// <summary>Computes the rows of one key head of one entry.</summary>
    internal void Run(int entry, int keyHead)
    {
        KeyValueCache cache = _plan.Cache;
        AttentionProblem problem = _plan.Problems[entry];
        DecodeRows<T> rows = new(_plan, entry, keyHead);
        T[] keys = new T[KeyValueCache.LongestRun * cache.Layout.HeadDim];
        T[] values = new T[KeyValueCache.LongestRun * cache.Layout.ValueDim];
        T[] scores = new T[KeyValueCache.LongestRun];
        for (int i = 0; i < problem.Queries; i++)
        {
            Select(entry, keyHead, i, rows);
            int visible = problem.Visible(i).End;
            foreach (int block in Blocks.Used(entry, keyHead, i))
            {
                int end = (int)Math.Min(visible, ((long)block + 1) * _parameters.BlockSize);
                for (int first = block * _parameters.BlockSize; first < end;)
                {
                    int count = cache.Run(first, end);
                    ReadOnlySpan<T> k = _softmax.Scores.Keys(entry, keyHead, first, count, keys.AsSpan());
                    ReadOnlySpan<T> v = cache.Values(_plan.Sequences[entry], keyHead, first, count, values.AsSpan());
                    for (int head = 0; head < _plan.Group; head++)
                    {
                        int row = (head * problem.Queries) + i;
                        Span<T> s = scores.AsSpan(0, count);
                        _softmax.Scores.Compute(entry, rows, row, first, k, s);
                        _softmax.Add(0, rows, row, s, v);
                    }

                    first += count;
                }
            }
        }

        _softmax.Finish(rows);
    }

    /// <summary>Chooses the blocks of row i, with the rule of the forward pass and in float64 as there.</summary>
    private void Select(int entry, int keyHead, int i, DecodeRows<T> rows)
    {
        AttentionProblem problem = _plan.Problems[entry];
        int headDim = problem.HeadDim;
        double[] queries = new double[_plan.Group * headDim];
        for (int head = 0; head < _plan.Group; head++)
        {
            ReadOnlySpan<T> query = rows.Of(_softmax.Scores.Query, (head * problem.Queries) + i);
            TensorPrimitives.ConvertTruncating(query, queries.AsSpan(head * headDim, headDim));
        }

        long t = i + problem.QueryOffset;
        int own = (int)(t / _parameters.BlockSize);
        int complete = (int)((t + 1) / _parameters.BlockSize);
        double[] importance = new double[own + 1];
        ReadOnlySpan<double> pooled = _pooled.Blocks(_plan.Sequences[entry], keyHead, complete);
        BlockSelector.Importance(queries, pooled, headDim, t, _parameters.BlockSize, _parameters.Scale, importance);
        Blocks.Set(entry, keyHead, i, BlockSelector.Choose(_parameters, importance, own));
    }
}
