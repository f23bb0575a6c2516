using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The selection of the rows of a group tile: scores with the pooled keys as one matrix product, importances and the choice in float. Where
/// float cannot decide, because two importances at the cut are closer than its rounding, <see cref="ExactChooser"/> does; so the lists are
/// those of the reference on the same float inputs. Scratch of one thread.
/// </summary>
internal sealed unsafe class BlockChooser
{
    /// <summary>Scratch rows scored at once, unless a single query row has more heads.</summary>
    private const int WantedRows = 64;

    /// <summary>exp of scores up to here, up or down, and sums of many of them are far from the ends of the range of floats.</summary>
    private const double SafeScore = 30;

    /// <summary>Scores up to here, up or down, have importances without underflow in float64: they differ where scores do.</summary>
    private const double SafeDistance = 300;

    private readonly AttentionProblem _problem;
    private readonly SparseSparseParameters _parameters;
    private readonly PooledBlocks _pooled;
    private readonly int _queryRows;
    private readonly float* _scores;
    private readonly int _stride;
    private readonly float* _importance;
    private readonly float* _recent;
    private readonly float* _candidateImportance;
    private readonly int[] _candidates;
    private readonly List<int> _exactlyChosen = [];
    private readonly ExactChooser _exact;
    private float _threshold;

    internal BlockChooser(in AttentionProblem problem, SparseSparseParameters parameters, PooledBlocks pooled, FloatArena arena)
    {
        int group = problem.QueryHeads / problem.KeyHeads;
        _problem = problem;
        _parameters = parameters;
        _pooled = pooled;
        _queryRows = Math.Max(1, WantedRows / group);
        _stride = (Math.Max(pooled.Count, 1) + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows * ColumnPanels.TileRows;
        _scores = arena.Take((long)_queryRows * group * _stride);
        _importance = arena.Take(_stride);
        _recent = arena.Take(parameters.BlockSize + ColumnPanels.TileRows);
        _candidateImportance = arena.Take(parameters.BlockSize + ColumnPanels.TileRows);
        _candidates = new int[parameters.BlockSize];
        _exact = new ExactChooser(problem, parameters, pooled);
    }

    /// <summary>Selects for all rows of a tile.</summary>
    /// <param name="tile">The rows.</param>
    /// <param name="q">Queries.</param>
    /// <param name="scaled">The queries of the tile times the scale.</param>
    /// <param name="blocks">Receives the lists.</param>
    internal void Select<TLanes, TVector>(in GroupTile tile, HostArray<float> q, PaddedRows scaled, BlockLists blocks)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int first = 0; first < tile.Count; first += _queryRows)
        {
            GroupTile part = tile with { First = tile.First + first, Count = Math.Min(_queryRows, tile.Count - first) };
            SelectPart<TLanes, TVector>(part, q, scaled, first * tile.Group, blocks);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void SelectPart<TLanes, TVector>(
        in GroupTile tile, HostArray<float> q, PaddedRows scaled, int firstScaled, BlockLists blocks)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int bs = _parameters.BlockSize;
        int most = (int)((tile.First + tile.Count + _problem.QueryOffset) / bs);
        ColumnPanels columns = _pooled.Columns(tile.Batch, tile.KeyHead);
        for (int first = 0; first < most; first += ColumnPanels.TileRows)
        {
            TileProduct<TLanes, TVector>.Multiply(
                scaled.Left(firstScaled),
                columns.Tile(first / ColumnPanels.TileRows),
                tile.Rows,
                _problem.HeadDim,
                Math.Min(ColumnPanels.TileRows, most - first),
                _scores + first,
                _stride,
                accumulate: false);
        }

        for (int n = 0; n < tile.Count; n++)
        {
            int row = tile.First + n;
            long t = row + _problem.QueryOffset;
            int own = (int)(t / bs);
            Span<int> list = blocks.Row(tile.Batch, tile.KeyHead, row);
            list.Fill(-1);
            if (own < _parameters.BlockCount && (own < bs || _parameters.Selection == BlockSelectionRule.Exact))
            {
                for (int block = 0; block <= own; block++)
                {
                    list[block] = block;
                }

                continue;
            }

            int firstHead = n * tile.Group;
            double margin = Importance<TLanes, TVector>(tile, firstHead, (int)((t + 1) / bs), scaled, firstScaled + firstHead);
            if (!Choose<TLanes, TVector>(own, margin, list))
            {
                _exactlyChosen.Clear();
                _exact.Choose(tile.Batch, tile.KeyHead, row, q, _exactlyChosen);
                blocks.Set(tile.Batch, tile.KeyHead, row, CollectionsMarshal.AsSpan(_exactlyChosen));
            }
        }
    }

    /// <summary>
    /// Computes the importance of the complete blocks of a row; of a single head any numbers that order like it, because there it grows
    /// with the score.
    /// </summary>
    /// <returns>
    /// A bound of the relative difference of two importances that rounding may cause. A product of D channels is off by at most
    /// (D + 4) 2^-24 |q| |kc|, which enters a comparison of two scores twice and, with the logsumexp of each, one of two importances four
    /// times; 1e-5 covers exponentials and sums.
    /// </returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double Importance<TLanes, TVector>(in GroupTile tile, int firstHead, int complete, PaddedRows scaled, int firstScaled)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int padded = (complete + TLanes.Count - 1) / TLanes.Count * TLanes.Count;
        double rounding = (_problem.HeadDim + 4) * 5.97e-8;
        double bound = 0;
        for (int h = 0; h < tile.Group; h++)
        {
            float* query = scaled.Row(firstScaled + h);
            float* scores = _scores + ((nint)(firstHead + h) * _stride);
            for (int b = complete; b < padded; b++)
            {
                scores[b] = float.NegativeInfinity;
            }

            // No score exceeds |q| |kc|. The factor covers the rounding of the two lengths.
            double most = 1.00001 * _pooled.LargestNorm(tile.Batch, tile.KeyHead)
                * Math.Sqrt(SparseProduct<TLanes, TVector>.Dot(query, query, scaled.Stride));
            bound = Math.Max(bound, most);
            if (tile.Group == 1 && most < SafeDistance)
            {
                // Numbers from 1 to 3: errors relative to |q| |kc| are at most so large relative to them.
                Normalize<TLanes, TVector>(scores, padded, (float)(1 / most), _importance);
                return (2 * rounding) + 4e-7;
            }

            float largest = most < SafeScore ? 0 : Largest<TLanes, TVector>(scores, padded);
            float share = 1 / Exponentials<TLanes, TVector>(scores, padded, largest);
            AddShares<TLanes, TVector>(scores, padded, share, _importance, accumulate: h > 0);
        }

        return 1e-5 + (4 * rounding * bound);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Normalize<TLanes, TVector>(float* scores, int length, float by, float* target)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector factor = TLanes.Broadcast(by);
        TVector two = TLanes.Broadcast(2);
        for (int b = 0; b < length; b += TLanes.Count)
        {
            TLanes.Store(target + b, TLanes.MultiplyAdd(TLanes.Load(scores + b), factor, two));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Largest<TLanes, TVector>(float* scores, int length)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector highest = TLanes.Load(scores);
        for (int b = TLanes.Count; b < length; b += TLanes.Count)
        {
            highest = TLanes.Max(highest, TLanes.Load(scores + b));
        }

        return TLanes.Largest(highest);
    }

    /// <summary>Scores to exp(s - largest); returns the sum.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Exponentials<TLanes, TVector>(float* scores, int length, float largest)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector shift = TLanes.Broadcast(largest);
        TVector total = default;
        for (int b = 0; b < length; b += TLanes.Count)
        {
            TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + b), shift));
            TLanes.Store(scores + b, weight);
            total = TLanes.Add(total, weight);
        }

        return TLanes.Sum(total);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddShares<TLanes, TVector>(float* weights, int length, float share, float* importance, bool accumulate)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector factor = TLanes.Broadcast(share);
        for (int b = 0; b < length; b += TLanes.Count)
        {
            TVector sum = accumulate ? TLanes.Load(importance + b) : default;
            TLanes.Store(importance + b, TLanes.MultiplyAdd(TLanes.Load(weights + b), factor, sum));
        }
    }

    /// <summary>Chooses by the rule, the own block always; returns whether the choice is sure.</summary>
    private bool Choose<TLanes, TVector>(int own, double margin, Span<int> list)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int others = Math.Min(_parameters.BlockCount - 1, own);
        int chunk = own / _parameters.BlockSize * _parameters.BlockSize;
        TopBlocks<TLanes, TVector>.Pad(_importance, own);
        if (_parameters.Selection == BlockSelectionRule.Exact || chunk == 0)
        {
            list[others] = own;
            return TopBlocks<TLanes, TVector>.Choose(_importance, own, others, margin, ref _threshold, 0, list);
        }

        // The chunk of the own block apart: each part of the candidates is chosen from consecutive, padded importances.
        int recent = own - chunk;
        new Span<float>(_importance + chunk, recent).CopyTo(new Span<float>(_recent, recent));
        TopBlocks<TLanes, TVector>.Pad(_importance, chunk);
        TopBlocks<TLanes, TVector>.Pad(_recent, recent);
        int half = _parameters.BlockSize / 2;
        int best = Math.Min(half - 1, recent);
        Span<int> candidates = _candidates.AsSpan(0, half + best);
        bool sure = TopBlocks<TLanes, TVector>.Choose(_importance, chunk, half, margin, ref _threshold, 0, candidates)
            && TopBlocks<TLanes, TVector>.Choose(_recent, recent, best, margin, ref _threshold, chunk, candidates[half..]);
        if (!sure)
        {
            return false;
        }

        for (int n = 0; n < candidates.Length; n++)
        {
            _candidateImportance[n] = n < half ? _importance[candidates[n]] : _recent[candidates[n] - chunk];
        }

        others = Math.Min(others, candidates.Length);
        TopBlocks<TLanes, TVector>.Pad(_candidateImportance, candidates.Length);
        sure = TopBlocks<TLanes, TVector>.Choose(_candidateImportance, candidates.Length, others, margin, ref _threshold, 0, list);
        for (int n = 0; n < others && sure; n++)
        {
            list[n] = candidates[list[n]];
        }

        list[others] = own;
        return sure;
    }
}
