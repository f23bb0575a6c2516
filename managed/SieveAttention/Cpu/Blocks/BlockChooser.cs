using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using SieveAttention.Cpu.Tiles;
using SieveAttention.Reference;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The selection of the rows of a group tile: scores with the pooled keys as one matrix product, importances and the choice in float. Where
/// float cannot decide, because two importances at the cut are closer than its rounding, the reference's arithmetic does; so the lists are
/// those of the reference on the same float inputs. Scratch of one thread.
/// </summary>
internal sealed unsafe class BlockChooser
{
    private readonly AttentionProblem _problem;
    private readonly SparseSparseParameters _parameters;
    private readonly PooledBlocks _pooled;
    private readonly float* _scores;
    private readonly int _stride;
    private readonly float[] _importance;
    private readonly int[] _identity;
    private readonly TopBlocks _top = new();
    private readonly List<int> _chosen = [];
    private readonly List<int> _candidates = [];
    private readonly double[] _exactQueries;
    private readonly double[] _exactImportance;

    internal BlockChooser(
        in AttentionProblem problem, SparseSparseParameters parameters, PooledBlocks pooled, FloatArena arena, int maxRows)
    {
        _problem = problem;
        _parameters = parameters;
        _pooled = pooled;
        _stride = (Math.Max(pooled.Count, 1) + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows * ColumnPanels.TileRows;
        _scores = arena.Take((long)maxRows * _stride);
        _importance = new float[_stride];
        _identity = [.. Enumerable.Range(0, pooled.Count + 1)];
        _exactQueries = new double[problem.QueryHeads / problem.KeyHeads * problem.HeadDim];
        _exactImportance = new double[pooled.Count + 1];
    }

    /// <summary>Selects for all rows of a tile.</summary>
    /// <param name="tile">The rows.</param>
    /// <param name="q">Queries.</param>
    /// <param name="scaled">The queries of the tile times the scale.</param>
    /// <param name="blocks">Receives the lists.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Select<TLanes, TVector>(in GroupTile tile, HostArray<float> q, PaddedRows scaled, BlockLists blocks)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int bs = _parameters.BlockSize;
        int most = (int)((tile.First + tile.Count + _problem.QueryOffset) / bs);
        ColumnPanels columns = _pooled.Columns(tile.Batch, tile.KeyHead);
        for (int first = 0; first < most; first += ColumnPanels.TileRows)
        {
            int count = Math.Min(ColumnPanels.TileRows, most - first);
            TileProduct<TLanes, TVector>.Multiply(
                scaled.Left(0),
                columns.Tile(first / ColumnPanels.TileRows),
                tile.Rows,
                _problem.HeadDim,
                count,
                _scores + first,
                _stride,
                accumulate: false);
        }

        for (int n = 0; n < tile.Count; n++)
        {
            int row = tile.First + n;
            long t = row + _problem.QueryOffset;
            int own = (int)(t / bs);
            _chosen.Clear();
            if (own < _parameters.BlockCount && (own < bs || _parameters.Selection == BlockSelectionRule.Exact))
            {
                _chosen.AddRange(_identity.AsSpan(0, own + 1));
            }
            else
            {
                double margin = Importance<TLanes, TVector>(tile, n, (int)((t + 1) / bs), own, scaled);
                if (!Choose(own, margin))
                {
                    ChooseExactly(tile, row, t, q);
                }
            }

            blocks.Set(tile.Batch, tile.KeyHead, row, CollectionsMarshal.AsSpan(_chosen));
        }
    }

    /// <summary>Computes the importance of the blocks before the row's own.</summary>
    /// <returns>
    /// A bound of the relative difference of two importances that rounding may cause: a product of D channels is off by at most
    /// (D + 4) 2^-24 |q| |kc|, which enters an importance twice and a comparison four times; 1e-5 covers exponentials and sums.
    /// </returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double Importance<TLanes, TVector>(in GroupTile tile, int n, int complete, int own, PaddedRows scaled)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int padded = (complete + TLanes.Count - 1) / TLanes.Count * TLanes.Count;
        _importance.AsSpan(0, padded).Clear();
        double norm = 0;
        fixed (float* importance = _importance)
        {
            for (int h = 0; h < tile.Group; h++)
            {
                int row = (n * tile.Group) + h;
                norm = Math.Max(norm, Math.Sqrt(RowMath.SumOfSquares(scaled.Span(row))));
                float* scores = _scores + ((nint)row * _stride);
                new Span<float>(scores + complete, padded - complete).Fill(float.NegativeInfinity);
                TVector highest = TLanes.Load(scores);
                for (int b = TLanes.Count; b < padded; b += TLanes.Count)
                {
                    highest = TLanes.Max(highest, TLanes.Load(scores + b));
                }

                TVector shift = TLanes.Broadcast(TLanes.Largest(highest));
                TVector total = default;
                for (int b = 0; b < padded; b += TLanes.Count)
                {
                    TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + b), shift));
                    TLanes.Store(scores + b, weight);
                    total = TLanes.Add(total, weight);
                }

                TVector share = TLanes.Broadcast(1 / TLanes.Sum(total));
                for (int b = 0; b < padded; b += TLanes.Count)
                {
                    TLanes.Store(importance + b, TLanes.MultiplyAdd(TLanes.Load(scores + b), share, TLanes.Load(importance + b)));
                }
            }
        }

        return 1e-5 + (4 * (_problem.HeadDim + 4) * 5.97e-8 * norm * _pooled.LargestNorm(tile.Batch, tile.KeyHead));
    }

    /// <summary>Chooses by the rule, the own block always; returns whether the choice is sure.</summary>
    private bool Choose(int own, double margin)
    {
        int half = _parameters.BlockSize / 2;
        int chunk = own / _parameters.BlockSize * _parameters.BlockSize;
        _chosen.Add(own);
        if (_parameters.Selection == BlockSelectionRule.Exact || chunk == 0)
        {
            return _top.Choose(_importance, _identity.AsSpan(0, own), _parameters.BlockCount - 1, margin, _chosen);
        }

        _candidates.Clear();
        bool sure = _top.Choose(_importance, _identity.AsSpan(0, chunk), half, margin, _candidates);
        sure &= _top.Choose(_importance, _identity.AsSpan(chunk, own - chunk), half - 1, margin, _candidates);
        return sure & _top.Choose(
            _importance, CollectionsMarshal.AsSpan(_candidates), _parameters.BlockCount - 1, margin, _chosen);
    }

    private void ChooseExactly(in GroupTile tile, int row, long t, HostArray<float> q)
    {
        for (int h = 0; h < tile.Group; h++)
        {
            ReadOnlySpan<float> query = q.Row(tile.Batch, (tile.KeyHead * tile.Group) + h, row);
            for (int c = 0; c < query.Length; c++)
            {
                _exactQueries[(h * query.Length) + c] = query[c];
            }
        }

        int bs = _parameters.BlockSize;
        BlockSelector.Importance(
            _exactQueries, _pooled.Exact(tile.Batch, tile.KeyHead), _problem.HeadDim, t, bs, _parameters.Scale, _exactImportance);
        _chosen.Clear();
        _chosen.AddRange(BlockSelector.Choose(_parameters, _exactImportance, (int)(t / bs)));
    }
}
