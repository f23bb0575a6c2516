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

    private readonly AttentionProblem _problem;
    private readonly SparseSparseParameters _parameters;
    private readonly PooledBlocks _pooled;
    private readonly int _queryRows;
    private readonly float* _scores;
    private readonly int _stride;
    private readonly float* _importance;
    private readonly float* _candidateImportance;
    private readonly int[] _identity;
    private readonly List<int> _chosen = [];
    private readonly List<int> _candidates = [];
    private readonly List<int> _places = [];
    private readonly ExactChooser _exact;

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
        _candidateImportance = arena.Take(parameters.BlockSize);
        _identity = [.. Enumerable.Range(0, pooled.Count + 1)];
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
            _chosen.Clear();
            if (own < _parameters.BlockCount && (own < bs || _parameters.Selection == BlockSelectionRule.Exact))
            {
                _chosen.AddRange(_identity.AsSpan(0, own + 1));
            }
            else
            {
                int firstHead = n * tile.Group;
                double margin = Importance<TLanes, TVector>(tile, firstHead, (int)((t + 1) / bs), scaled, firstScaled + firstHead);
                if (!Choose<TLanes, TVector>(own, margin))
                {
                    _chosen.Clear();
                    _exact.Choose(tile.Batch, tile.KeyHead, row, q, _chosen);
                }
            }

            blocks.Set(tile.Batch, tile.KeyHead, row, CollectionsMarshal.AsSpan(_chosen));
        }
    }

    /// <summary>Computes the importance of the complete blocks of a row.</summary>
    /// <returns>
    /// A bound of the relative difference of two importances that rounding may cause: a product of D channels is off by at most
    /// (D + 4) 2^-24 |q| |kc|, which enters an importance twice and a comparison four times; 1e-5 covers exponentials and sums.
    /// </returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double Importance<TLanes, TVector>(in GroupTile tile, int firstHead, int complete, PaddedRows scaled, int firstScaled)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int padded = (complete + TLanes.Count - 1) / TLanes.Count * TLanes.Count;
        float* importance = _importance;
        new Span<float>(importance, padded).Clear();
        float square = 0;
        for (int h = 0; h < tile.Group; h++)
        {
            float* query = scaled.Row(firstScaled + h);
            square = MathF.Max(square, SparseProduct<TLanes, TVector>.Dot(query, query, scaled.Stride));
            float* scores = _scores + ((nint)(firstHead + h) * _stride);
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

        return 1e-5 + (4 * (_problem.HeadDim + 4) * 5.97e-8 * Math.Sqrt(square) * _pooled.LargestNorm(tile.Batch, tile.KeyHead));
    }

    /// <summary>Chooses by the rule, the own block always; returns whether the choice is sure.</summary>
    private bool Choose<TLanes, TVector>(int own, double margin)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int half = _parameters.BlockSize / 2;
        int chunk = own / _parameters.BlockSize * _parameters.BlockSize;
        if (_parameters.Selection == BlockSelectionRule.Exact || chunk == 0)
        {
            bool sureAlone = TopBlocks<TLanes, TVector>.Choose(_importance, 0, own, _parameters.BlockCount - 1, margin, _chosen);
            _chosen.Add(own);
            return sureAlone;
        }

        _candidates.Clear();
        bool sure = TopBlocks<TLanes, TVector>.Choose(_importance, 0, chunk, half, margin, _candidates);
        sure &= TopBlocks<TLanes, TVector>.Choose(_importance, chunk, own, half - 1, margin, _candidates);
        for (int n = 0; n < _candidates.Count; n++)
        {
            _candidateImportance[n] = _importance[_candidates[n]];
        }

        _places.Clear();
        sure &= TopBlocks<TLanes, TVector>.Choose(
            _candidateImportance, 0, _candidates.Count, _parameters.BlockCount - 1, margin, _places);
        foreach (int place in _places)
        {
            _chosen.Add(_candidates[place]);
        }

        _chosen.Add(own);
        return sure;
    }
}
