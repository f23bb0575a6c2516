using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using SieveAttention.Reference;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The selection of a single row in float64 with the bits of the reference, for rows that float cannot decide. Products with eight pooled
/// keys run side by side, each with the reference's own chain of multiplications and additions. Scratch of one thread.
/// </summary>
internal sealed class ExactChooser
{
    private readonly AttentionProblem _problem;
    private readonly SparseSparseParameters _parameters;
    private readonly PooledBlocks _pooled;
    private readonly double[] _scores;
    private readonly double[] _importance;
    private readonly List<int> _candidates = [];

    internal ExactChooser(in AttentionProblem problem, SparseSparseParameters parameters, PooledBlocks pooled)
    {
        _problem = problem;
        _parameters = parameters;
        _pooled = pooled;
        _scores = new double[pooled.ExactStride];
        _importance = new double[pooled.Count + 1];
    }

    /// <summary>Appends the blocks of a row in any order.</summary>
    internal void Choose(int batch, int keyHead, int row, HostArray<float> q, List<int> chosen)
    {
        int bs = _parameters.BlockSize;
        long t = row + _problem.QueryOffset;
        (int complete, int own) = ((int)((t + 1) / bs), (int)(t / bs));
        int group = _problem.QueryHeads / _problem.KeyHeads;
        _importance.AsSpan(0, own).Clear();
        for (int h = 0; h < group; h++)
        {
            Score(q.Row(batch, (keyHead * group) + h, row), _pooled.Exact(batch, keyHead), complete);
            BlockSelector.AddShares(_scores.AsSpan(0, complete), _importance.AsSpan(0, own));
        }

        chosen.Add(own);
        int chunk = own / bs * bs;
        if (_parameters.Selection == BlockSelectionRule.Exact || chunk == 0)
        {
            AddBest(0, own, _parameters.BlockCount - 1, chosen);
            return;
        }

        _candidates.Clear();
        AddBest(0, chunk, bs / 2, _candidates);
        AddBest(chunk, own, (bs / 2) - 1, _candidates);
        _candidates.Sort(Order);
        chosen.AddRange(_candidates.Take(_parameters.BlockCount - 1));
    }

    /// <summary>scale q . kc of the first blocks.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Score(ReadOnlySpan<float> query, ReadOnlySpan<double> columns, int count)
    {
        int stride = _pooled.ExactStride;
        for (int block = 0; block < count; block += 2 * Vector512<double>.Count)
        {
            Vector512<double> first = default;
            Vector512<double> second = default;
            for (int c = 0; c < query.Length; c++)
            {
                // Two roundings, as in the reference: a fused step would give other bits.
                Vector512<double> x = Vector512.Create((double)query[c]);
                ReadOnlySpan<double> column = columns.Slice((c * stride) + block, 2 * Vector512<double>.Count);
                first += x * Vector512.Create(column);
                second += x * Vector512.Create(column[Vector512<double>.Count..]);
            }

            Vector512<double> scale = Vector512.Create(_parameters.Scale);
            (scale * first).CopyTo(_scores.AsSpan(block));
            (scale * second).CopyTo(_scores.AsSpan(block + Vector512<double>.Count));
        }
    }

    /// <summary>Appends the best blocks of a range: the larger importance first, of equals the smaller block.</summary>
    private void AddBest(int first, int end, int count, List<int> chosen)
    {
        int start = chosen.Count;
        for (int block = first; block < end && count > 0; block++)
        {
            if (chosen.Count - start == count)
            {
                if (Order(block, chosen[^1]) > 0)
                {
                    continue;
                }

                chosen.RemoveAt(chosen.Count - 1);
            }

            int place = chosen.Count;
            while (place > start && Order(block, chosen[place - 1]) < 0)
            {
                place--;
            }

            chosen.Insert(place, block);
        }
    }

    /// <summary>Negative where block <paramref name="x"/> is to be chosen before block <paramref name="y"/>.</summary>
    private int Order(int x, int y)
    {
        int order = _importance[y].CompareTo(_importance[x]);
        return order != 0 ? order : x.CompareTo(y);
    }
}
