using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The gradient of the full stream, fused with that of the sparse one: one pass over all visible keys computes the scores once for both.
/// <code>
/// p_f = exp(s - L_f),   p_s = M exp(s - L_s),   M = 1 on selected keys
/// dS = p_f (dO_f . v - Delta_f) + p_s (dO_s . v - Delta_s),   dV = p_f^T dO_f + p_s^T dO_s
/// </code>
/// Key tiles that no row of the tile selects cost the five products of the full stream alone, the others seven. p_s is computed from L_s
/// instead of p_f exp(L_f - L_s), whose factors overflow and vanish where the selected part is tiny.
/// </summary>
internal sealed class DualBackward(
    AttentionProblem problem,
    SparseSparseParameters parameters,
    SparseSparseArrays<float> inputs,
    SparseSparseForward<float> forward,
    HostArray<float>? dSparse,
    HostArray<float> dFull,
    CpuExecution execution) : ILaneWork
{
    private readonly GroupSchedule _schedule = new(problem, execution.Threads);

    internal RowGradients<float> Result { get; } = new(
        new HostArray<float>(problem.QueryShape), new HostArray<float>(problem.KeyShape), new HostArray<float>(problem.ValueShape), null);

    private int KeyTiles => ((problem.Keys - 1) / ColumnPanels.TileRows) + 1;

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using BlockHeads heads = new(
            problem, execution, inputs.Key, inputs.Value, MicroKernel<TLanes, TVector>.MaxColumns, backward: true);
        KeySums.Run(problem, _schedule, execution, Result, arena => MakeScratch(arena), (tile, scratch, sums) =>
            Differentiate<TLanes, TVector>(tile, heads[tile.Batch, tile.KeyHead], scratch, sums));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Differentiate<TLanes, TVector>(in GroupTile tile, BlockHead head, Scratch scratch, KeySums sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Begin(tile, scratch);
        int end = problem.Visible(tile.First + tile.Count - 1).End;
        for (int keyTile = 0; keyTile * ColumnPanels.TileRows < end; keyTile++)
        {
            int firstKey = keyTile * ColumnPanels.TileRows;
            int count = Math.Min(ColumnPanels.TileRows, problem.Keys - firstKey);
            bool whole = problem.Visible(tile.First).End >= firstKey + count;
            if (whole || (head.Finite[keyTile] && scratch.Finite))
            {
                AddTile<TLanes, TVector>(tile, 0, tile.Count, keyTile, count, head, scratch, sums);
                continue;
            }

            // A weight of 0 times NaN or infinity is NaN: rows stay away from keys that they do not see.
            for (int n = 0; n < tile.Count; n++)
            {
                int visible = Math.Min(problem.Visible(tile.First + n).End - firstKey, count);
                if (visible > 0)
                {
                    AddTile<TLanes, TVector>(tile, n, 1, keyTile, visible, head, scratch, sums);
                }
            }
        }

        for (int row = 0; row < tile.Rows; row++)
        {
            RowMath.Scale(
                scratch.DQueries.Span(row), (float)parameters.Scale, Result.Query.Row(tile.Batch, tile.Head(row), tile.QueryRow(row)));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Begin(in GroupTile tile, Scratch scratch)
    {
        scratch.Finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            RowMath.Scale(
                inputs.Query.Row(tile.Batch, tile.Head(row), tile.QueryRow(row)), (float)parameters.Scale, scratch.Queries.Span(row));
            scratch.Queries.ClearPadding(row);
            scratch.Finite &= RowMath.IsFinite(scratch.Queries.Span(row));
        }

        scratch.Full.Begin(tile);
        scratch.Sparse?.Begin(tile);
        scratch.Finite &= scratch.Full.Finite && scratch.Sparse is not { Finite: false };
        scratch.DQueries.Clear(tile.Rows);
        if (scratch.Sparse is not null)
        {
            scratch.Mark(tile, forward.Blocks!);
        }
    }

    /// <summary>Adds the gradients of the pairs of some query rows of the tile with the first keys of a key tile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void AddTile<TLanes, TVector>(
        in GroupTile tile, int n, int queryRows, int keyTile, int count, BlockHead head, Scratch scratch, KeySums sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int firstRow = n * tile.Group;
        int rows = queryRows * tile.Group;
        int firstKey = keyTile * ColumnPanels.TileRows;
        float* weights = scratch.Weights;
        float* gradients = scratch.Gradients;
        TileProduct<TLanes, TVector>.Multiply(
            scratch.Queries.Left(firstRow), head.Keys.Tile(keyTile), rows, problem.HeadDim, count, weights, Scratch.Stride, false);
        for (int row = 0; row < rows; row++)
        {
            int visible = Math.Clamp(problem.Visible(tile.QueryRow(firstRow + row)).End - firstKey, 0, count);
            new Span<float>(weights + (row * Scratch.Stride) + visible, Scratch.Stride - visible).Fill(float.NegativeInfinity);
        }

        bool marked = scratch.Sparse is not null && scratch.AnyMark(n, queryRows, keyTile);
        if (marked)
        {
            new Span<float>(weights, rows * Scratch.Stride).CopyTo(new Span<float>(scratch.SparseWeights, rows * Scratch.Stride));
        }

        AddStream<TLanes, TVector>(scratch.Full, weights, gradients, firstRow, rows, keyTile, count, head, sums);
        if (marked)
        {
            for (int row = 0; row < rows; row++)
            {
                scratch.Mask(row, n + (row / tile.Group), keyTile);
            }

            AddStream<TLanes, TVector>(
                scratch.Sparse!, scratch.SparseWeights, scratch.SparseGradients, firstRow, rows, keyTile, count, head, sums);
            RowMath.Add(
                new ReadOnlySpan<float>(scratch.SparseGradients, rows * Scratch.Stride), new Span<float>(gradients, rows * Scratch.Stride));
        }

        PaddedRows dQueries = scratch.DQueries;
        LeftFactor ds = new(gradients, Scratch.Stride);
        TileProduct<TLanes, TVector>.Multiply(
            ds, head.KeyRows!.Right<TLanes, TVector>(firstKey), rows, count, dQueries.Channels,
            dQueries.Row(firstRow), dQueries.Stride, accumulate: true);
        TileProduct<TLanes, TVector>.Multiply(
            ds.Transposed, scratch.Queries.Right<TLanes, TVector>(firstRow), count, rows, sums.Key.Channels,
            sums.Key.Row(firstKey), sums.Key.Stride, accumulate: true);
    }

    /// <summary>Scores to weights, dS of one stream, and its part of dV.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void AddStream<TLanes, TVector>(
        StreamGradient stream,
        float* weights,
        float* gradients,
        int firstRow,
        int rows,
        int keyTile,
        int count,
        BlockHead head,
        KeySums sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int firstKey = keyTile * ColumnPanels.TileRows;
        TileProduct<TLanes, TVector>.Multiply(
            stream.Rows.Left(firstRow), head.ValueColumns!.Tile(keyTile), rows, problem.ValueDim, count, gradients, Scratch.Stride, false);
        for (int row = 0; row < rows; row++)
        {
            stream.Differentiate<TLanes, TVector>(
                firstRow + row, weights + (row * Scratch.Stride), gradients + (row * Scratch.Stride), Scratch.Stride);
        }

        TileProduct<TLanes, TVector>.Multiply(
            new LeftFactor(weights, Scratch.Stride).Transposed, stream.Rows.Right<TLanes, TVector>(firstRow), count, rows,
            sums.Value.Channels, sums.Value.Row(firstKey), sums.Value.Stride, accumulate: true);
    }

    private Scratch MakeScratch(FloatArena arena) => new(
        arena,
        _schedule.MaxRows,
        KeyTiles,
        problem,
        new StreamGradient(problem, forward.Full!, dFull, arena, _schedule.MaxRows),
        dSparse is null ? null : new StreamGradient(problem, forward.Sparse!, dSparse, arena, _schedule.MaxRows));

    /// <summary>Scratch of one thread.</summary>
    private sealed unsafe class Scratch(
        FloatArena arena, int maxRows, int keyTiles, AttentionProblem problem, StreamGradient full, StreamGradient? sparse)
    {
        internal const int Stride = ColumnPanels.TileRows;

        private readonly ulong[] _marks = sparse is null ? [] : new ulong[maxRows * keyTiles];

        internal StreamGradient Full { get; } = full;

        internal StreamGradient? Sparse { get; } = sparse;

        /// <summary>Queries of the tile times the scale.</summary>
        internal PaddedRows Queries { get; } = new(arena, maxRows, problem.HeadDim);

        internal PaddedRows DQueries { get; } = new(arena, maxRows, problem.HeadDim);

        internal float* Weights { get; } = arena.Take(maxRows * Stride);

        internal float* Gradients { get; } = arena.Take(maxRows * Stride);

        internal float* SparseWeights { get; } = arena.Take(maxRows * Stride);

        internal float* SparseGradients { get; } = arena.Take(maxRows * Stride);

        /// <summary>Whether queries and output gradients have neither NaN nor infinity.</summary>
        internal bool Finite { get; set; }

        /// <summary>Sets one bit for each selected key of each query row.</summary>
        internal void Mark(in GroupTile tile, BlockLists blocks)
        {
            _marks.AsSpan(0, tile.Count * keyTiles).Clear();
            for (int n = 0; n < tile.Count; n++)
            {
                foreach (int block in blocks.Used(tile.Batch, tile.KeyHead, tile.First + n))
                {
                    KeyRange keys = blocks.Keys(tile.First + n, block);
                    for (int word = keys.First / 64; word <= (keys.End - 1) / 64; word++)
                    {
                        int from = Math.Max(keys.First - (64 * word), 0);
                        int end = Math.Min(keys.End - (64 * word), 64);
                        _marks[(n * keyTiles) + word] |= (ulong.MaxValue >> (64 - (end - from))) << from;
                    }
                }
            }
        }

        internal bool AnyMark(int n, int queryRows, int keyTile)
        {
            ulong any = 0;
            for (int row = n; row < n + queryRows; row++)
            {
                any |= _marks[(row * keyTiles) + keyTile];
            }

            return any != 0;
        }

        /// <summary>Writes -infinity over the scores of the sparse stream that are not selected.</summary>
        internal void Mask(int row, int n, int keyTile)
        {
            float* scores = SparseWeights + (row * Stride);
            for (ulong others = ~_marks[(n * keyTiles) + keyTile]; others != 0; others &= others - 1)
            {
                scores[BitOperations.TrailingZeroCount(others)] = float.NegativeInfinity;
            }
        }
    }
}
