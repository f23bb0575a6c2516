using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The sparse stream: selection and attention over the selected blocks in one pass over the rows. Key and value blocks that a row does not
/// select are not touched for it.
/// </summary>
internal sealed class SelectedForward(
    AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<float> inputs, CpuExecution execution) : ILaneWork
{
    private readonly GroupSchedule _schedule = new(problem, execution.Threads);
    private readonly HostArray<float> _output = new(problem.OutputShape);
    private readonly float[] _lse = new float[problem.RowShape.Count];

    internal BlockLists Blocks { get; } = inputs.Blocks ?? new BlockLists(problem, parameters.BlockSize, parameters.BlockCount);

    internal SparseSparseOutput<float> Result => new(_output, _lse);

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using BlockHeads heads = new(problem, execution, inputs.Key, inputs.Value, TLanes.Count, backward: false);
        using PooledBlocks? pooled = inputs.Blocks is null
            ? new PooledBlocks(problem, execution, parameters.BlockSize, inputs.Key, MicroKernel<TLanes, TVector>.MaxColumns)
            : null;
        Workers.Run(execution, _schedule.Count, arena => new Scratch(this, pooled, arena, TLanes.Count), (task, scratch) =>
        {
            GroupTile tile = _schedule[task];
            scratch.Rows.Begin(tile, inputs.Query);
            scratch.Chooser?.Select<TLanes, TVector>(tile, inputs.Query, scratch.Rows.Queries, Blocks);
            BlockHead head = heads[tile.Batch, tile.KeyHead];
            for (int n = 0; n < tile.Count; n++)
            {
                Attend<TLanes, TVector>(tile, n, head, scratch);
            }
        });
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void Attend<TLanes, TVector>(in GroupTile tile, int n, BlockHead head, Scratch scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int firstRow = n * tile.Group;
        if (!scratch.Rows.Score<TLanes, TVector>(tile, n, head, Blocks))
        {
            for (int h = 0; h < tile.Group; h++)
            {
                _lse[RowIndex(tile, firstRow + h)] = float.NegativeInfinity;
            }

            return;
        }

        Strip strip = scratch.Rows.Scores;
        for (int h = 0; h < tile.Group; h++)
        {
            (float largest, scratch.Total[h]) = Weigh<TLanes, TVector>(strip.Row(h), strip.Stride);
            _lse[RowIndex(tile, firstRow + h)] = largest + MathF.Log(scratch.Total[h]);
        }

        PaddedRows sum = scratch.Sum;
        sum.Clear(tile.Group);
        foreach ((int start, KeyRange keys) in scratch.Rows.Columns.Runs)
        {
            TileProduct<TLanes, TVector>.Multiply(
                strip.From(start),
                head.Values.Right<TLanes, TVector>(keys.First),
                tile.Group,
                keys.Count,
                sum.Channels,
                sum.Row(0),
                sum.Stride,
                accumulate: true);
        }

        for (int h = 0; h < tile.Group; h++)
        {
            RowMath.Scale(sum.Span(h), 1 / scratch.Total[h], _output.Row(tile.Batch, tile.Head(firstRow + h), tile.First + n));
        }
    }

    /// <summary>Scores to weights relative to the largest; returns that and the sum of weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe (float Largest, float Total) Weigh<TLanes, TVector>(float* scores, int length)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector highest = TLanes.Load(scores);
        for (int c = TLanes.Count; c < length; c += TLanes.Count)
        {
            highest = TLanes.Max(highest, TLanes.Load(scores + c));
        }

        float largest = TLanes.Largest(highest);
        TVector shift = TLanes.Broadcast(largest);
        TVector total = default;
        for (int c = 0; c < length; c += TLanes.Count)
        {
            TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + c), shift));
            TLanes.Store(scores + c, weight);
            total = TLanes.Add(total, weight);
        }

        return (largest, TLanes.Sum(total));
    }

    private int RowIndex(in GroupTile tile, int row) =>
        (((tile.Batch * problem.QueryHeads) + tile.Head(row)) * problem.Queries) + tile.QueryRow(row);

    /// <summary>Scratch of one thread.</summary>
    private sealed class Scratch(SelectedForward pass, PooledBlocks? pooled, FloatArena arena, int width)
    {
        internal SelectedRows Rows { get; } = new(pass.Problem, pass.Parameters, pass._schedule, arena, width);

        internal BlockChooser? Chooser { get; } = pooled is null
            ? null
            : new BlockChooser(pass.Problem, pass.Parameters, pooled, arena, pass._schedule.MaxRows);

        internal PaddedRows Sum { get; } = new(arena, pass._schedule.Group, pass.Problem.ValueDim);

        internal float[] Total { get; } = new float[pass._schedule.Group];
    }

    private AttentionProblem Problem => problem;

    private SparseSparseParameters Parameters => parameters;
}
