using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// The queries of one query tile with scale and row factor folded in, and their scores
/// s_ij = scale g_i (q_i . k_j) - slope_h (i + offset - j). Every pass over a row computes its scores here, so that all of them see the
/// same bits.
/// </summary>
internal sealed unsafe class ScoredQueries
{
    private readonly AttentionProblem _problem;
    private readonly ScoreTerms<float> _terms;
    private readonly float* _columns;

    internal ScoredQueries(AttentionProblem problem, ScoreTerms<float> terms, FloatArena arena)
    {
        _problem = problem;
        _terms = terms;
        Rows = new PaddedRows(arena, QueryTile.MaxRows, problem.HeadDim);
        _columns = arena.Take(ColumnPanels.TileRows);
        for (int column = 0; column < ColumnPanels.TileRows; column++)
        {
            _columns[column] = column;
        }
    }

    /// <summary>scale g_i q_i.</summary>
    internal PaddedRows Rows { get; }

    /// <summary>Whether the rows have neither NaN nor infinity.</summary>
    internal bool Finite { get; private set; }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Load(HostArray<float> q, in QueryTile tile)
    {
        Finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            float factor = _terms.Scale * _terms.Factor(tile.Batch, tile.Head, tile.First + row);
            RowMath.Scale(q.Row(tile.Batch, tile.Head, tile.First + row), factor, Rows.Span(row));
            Rows.ClearPadding(row);
            Finite &= RowMath.IsFinite(Rows.Span(row));
        }
    }

    /// <summary>Writes the scores of all pairs of the query tile and a key tile, of masked pairs too.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Score<TLanes, TVector>(in QueryTile tile, ColumnPanels keys, int keyTile, int keysInTile, float* scores, nint stride)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TileProduct<TLanes, TVector>.Multiply(
            Rows.Left(0), keys.Tile(keyTile), tile.Rows, Rows.Channels, keysInTile, scores, stride, accumulate: false);
        if (_terms.AlibiSlopes is null)
        {
            return;
        }

        TVector slope = TLanes.Broadcast(_terms.AlibiSlopes[tile.Head]);
        for (int row = 0; row < tile.Rows; row++)
        {
            // Distances are whole numbers, exact in float below 2^24.
            long distance = tile.First + row + _problem.QueryOffset - ((long)keyTile * ColumnPanels.TileRows);
            TVector shift = TLanes.Broadcast(distance);
            float* line = scores + (row * stride);
            for (int c = 0; c < keysInTile; c += TLanes.Count)
            {
                TVector bias = TLanes.Multiply(slope, TLanes.Subtract(TLanes.Load(_columns + c), shift));
                TLanes.Store(line + c, TLanes.Add(TLanes.Load(line + c), bias));
            }
        }
    }

    /// <summary>
    /// Gradients of the queries and row factors of a tile from <paramref name="sums"/>, the rows sum over j of ds_ij k_j:
    /// dq_i = scale g_i sum_i and dg_i = scale q_i . sum_i.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Finish(HostArray<float> q, in QueryTile tile, PaddedRows sums, HostArray<float> dq, HostArray<float>? drowFactor)
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            int queryRow = tile.First + row;
            float factor = _terms.Scale * _terms.Factor(tile.Batch, tile.Head, queryRow);
            RowMath.Scale(sums.Span(row), factor, dq.Row(tile.Batch, tile.Head, queryRow));
            if (drowFactor is not null)
            {
                double inner = RowMath.Dot(q.Row(tile.Batch, tile.Head, queryRow), sums.Span(row));
                drowFactor.Row(tile.Batch, tile.Head, queryRow)[0] = (float)(_terms.Scale * inner);
            }
        }
    }
}
