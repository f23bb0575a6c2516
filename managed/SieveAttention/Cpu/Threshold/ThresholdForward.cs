using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>The forward pass of threshold differential attention over all query tiles.</summary>
internal sealed class ThresholdForward(ThresholdCall call) : ILaneWork
{
    private readonly HostArray<float> _output = new(call.Problem.OutputShape);
    private readonly int[] _survivors1 = new int[call.Problem.RowShape.Count];
    private readonly int[]? _survivors2 = call.Inputs.TwoViews ? new int[call.Problem.RowShape.Count] : null;

    internal ThresholdDifferentialForward<float> Result => new(_output, _survivors1, _survivors2);

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using ThresholdKeys keys = new(call, MicroKernel<TLanes, TVector>.MaxColumns, backward: false);
        Workers.Run(call.Execution, call.Schedule.Count, arena => new ThresholdTile(call, arena), (task, scratch) =>
        {
            QueryTile tile = call.Schedule[task];
            scratch.Attend<TLanes, TVector>(call, keys[tile.Batch, tile.KeyHead], tile, log: null);
            Finish(tile, scratch);
        });
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Finish(in QueryTile tile, ThresholdTile scratch)
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            call.Epilogue.Forward(
                scratch.Sum.Span(row), tile.Batch, tile.Head, tile.First + row, _output.Row(tile.Batch, tile.Head, tile.First + row));
        }

        int firstRow = (((tile.Batch * call.Problem.QueryHeads) + tile.Head) * call.Problem.Queries) + tile.First;
        scratch.Survivors1.AsSpan(0, tile.Rows).CopyTo(_survivors1.AsSpan(firstRow));
        if (_survivors2 is not null)
        {
            scratch.Survivors2.AsSpan(0, tile.Rows).CopyTo(_survivors2.AsSpan(firstRow));
        }
    }
}
