using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The gradient of the sparse stream alone: only the selected blocks of each row are visited, with the weights computed again.
/// </summary>
internal sealed class SelectedBackward(
    AttentionProblem problem,
    SparseSparseParameters parameters,
    SparseSparseArrays<float> inputs,
    SparseSparseForward<float> forward,
    HostArray<float> dOutput,
    CpuExecution execution) : ILaneWork
{
    private readonly GroupSchedule _schedule = new(problem, execution.Threads);
    private readonly BlockLists _blocks = forward.Blocks!;

    internal RowGradients<float> Result { get; } = new(
        new HostArray<float>(problem.QueryShape), new HostArray<float>(problem.KeyShape), new HostArray<float>(problem.ValueShape), null);

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using BlockHeads heads = new(problem, execution, inputs.Key, inputs.Value, TLanes.Count, backward: true);
        KeySums.Run(problem, _schedule, execution, Result, arena => MakeScratch(arena, TLanes.Count), (tile, scratch, sums) =>
        {
            scratch.Rows.Begin(tile, inputs.Query);
            scratch.Stream.Begin(tile);
            BlockHead head = heads[tile.Batch, tile.KeyHead];
            for (int n = 0; n < tile.Count; n++)
            {
                Differentiate<TLanes, TVector>(tile, n, head, scratch, sums);
            }
        });
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void Differentiate<TLanes, TVector>(in GroupTile tile, int n, BlockHead head, Scratch scratch, KeySums sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        SelectedRows rows = scratch.Rows;
        if (!rows.Score<TLanes, TVector>(tile, n, head, _blocks))
        {
            return;
        }

        int firstRow = n * tile.Group;
        PaddedRows dOutputs = scratch.Stream.Rows;
        Strip products = scratch.Products;
        products.Resize(rows.Scores.Stride);
        ScatteredProduct<TLanes, TVector>.Multiply(
            dOutputs.Left(firstRow),
            tile.Group,
            rows.Columns.Addresses(head.ValueColumns!),
            rows.Columns.Count,
            TLanes.Count,
            problem.ValueDim,
            products.Data,
            products.Stride);
        for (int h = 0; h < tile.Group; h++)
        {
            scratch.Stream.Differentiate<TLanes, TVector>(firstRow + h, rows.Scores.Row(h), products.Row(h), products.Stride);
        }

        PaddedRows dQueries = scratch.DQueries;
        dQueries.Clear(tile.Group);
        foreach ((int start, KeyRange keys) in rows.Columns.Runs)
        {
            TileProduct<TLanes, TVector>.Multiply(
                products.From(start), head.KeyRows!.Right<TLanes, TVector>(keys.First), tile.Group, keys.Count, dQueries.Channels,
                dQueries.Row(0), dQueries.Stride, accumulate: true);
            TileProduct<TLanes, TVector>.Multiply(
                products.From(start).Transposed, rows.Queries.Right<TLanes, TVector>(firstRow), keys.Count, tile.Group, sums.Key.Channels,
                sums.Key.Row(keys.First), sums.Key.Stride, accumulate: true);
            TileProduct<TLanes, TVector>.Multiply(
                rows.Scores.From(start).Transposed, dOutputs.Right<TLanes, TVector>(firstRow), keys.Count, tile.Group, sums.Value.Channels,
                sums.Value.Row(keys.First), sums.Value.Stride, accumulate: true);
        }

        for (int h = 0; h < tile.Group; h++)
        {
            RowMath.Scale(
                dQueries.Span(h), (float)parameters.Scale, Result.Query.Row(tile.Batch, tile.Head(firstRow + h), tile.First + n));
        }
    }

    private Scratch MakeScratch(FloatArena arena, int width) => new(
        new SelectedRows(problem, parameters, _schedule, arena, width),
        new StreamGradient(problem, forward.Sparse!, dOutput, arena, _schedule.MaxRows),
        new Strip(arena, _schedule.Group),
        new PaddedRows(arena, _schedule.Group, problem.HeadDim));

    /// <summary>Scratch of one thread.</summary>
    private sealed record Scratch(SelectedRows Rows, StreamGradient Stream, Strip Products, PaddedRows DQueries);
}
