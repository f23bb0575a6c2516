using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>The forward pass of threshold differential attention over all query tiles.</summary>
internal sealed class ThresholdForward(
    AttentionProblem problem,
    ThresholdDifferentialParameters parameters,
    ThresholdTuning tuning,
    CpuExecution execution,
    HostArray<float> q1,
    HostArray<float> k1,
    HostArray<float>? q2,
    HostArray<float>? k2,
    HostArray<float> v,
    Epilogue epilogue) : ILaneWork
{
    private readonly TileSchedule _schedule = new(problem);
    private readonly HostArray<float> _output = new(problem.OutputShape);
    private readonly int[] _survivors1 = new int[problem.RowShape.Count];
    private readonly int[] _survivors2 = new int[q2 is null ? 0 : problem.RowShape.Count];
    private readonly ThresholdPower _power = new(parameters.Power);

    internal ThresholdDifferentialForward<float> Result => new(_output, _survivors1, q2 is null ? null : _survivors2);

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using ThresholdKeys keys = new(
            execution, problem, _schedule, k1, k2, v, MicroKernel<TLanes, TVector>.MaxColumns, backward: false);
        Workers.Run(
            execution,
            _schedule.Count,
            () => new ThresholdTile(problem, q2 is not null),
            (task, scratch) =>
            {
                QueryTile tile = _schedule[task];
                Attend<TLanes, TVector>(tile, scratch, keys);
                Finish(tile, scratch);
            });
    }

    /// <summary>Sums the weighted values of every key tile, in ascending order, that has a survivor.</summary>
    private void Attend<TLanes, TVector>(in QueryTile tile, ThresholdTile scratch, ThresholdKeys keys)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        float lambda = (float)parameters.Lambda[tile.Head];
        UnitKeys view1 = keys.View1(tile.Batch, tile.KeyHead);
        UnitKeys? view2 = q2 is null ? null : keys.View2(tile.Batch, tile.KeyHead);
        HeadValues values = keys.Values(tile.Batch, tile.KeyHead);
        scratch.Begin(problem, tile, q1, q2, parameters.Beta[tile.Head], parameters.Kappa);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            int survivors = scratch.Find<TLanes, TVector>(_schedule, tile, view1, view2, keyTile);
            if (survivors == 0)
            {
                continue;
            }

            int firstKey = keyTile * ColumnPanels.TileRows;
            int keysInTile = _schedule.KeysInTile(keyTile);
            if (survivors > tuning.DenseSurvivors * tile.Rows * keysInTile && values.IsFinite(keyTile))
            {
                scratch.AddTile<TLanes, TVector>(tile, values.Rows, firstKey, keysInTile, _power, lambda);
            }
            else
            {
                scratch.AddSurvivors<TLanes, TVector>(tile, values.Rows, firstKey, _power, lambda);
            }
        }
    }

    private void Finish(in QueryTile tile, ThresholdTile scratch)
    {
        int firstRow = (((tile.Batch * problem.QueryHeads) + tile.Head) * problem.Queries) + tile.First;
        for (int row = 0; row < tile.Rows; row++)
        {
            epilogue.Forward(
                scratch.Sum.Span(row), tile.Batch, tile.Head, tile.First + row, _output.Row(tile.Batch, tile.Head, tile.First + row));
        }

        scratch.Survivors1.AsSpan(0, tile.Rows).CopyTo(_survivors1.AsSpan(firstRow));
        if (scratch.TwoViews)
        {
            scratch.Survivors2.AsSpan(0, tile.Rows).CopyTo(_survivors2.AsSpan(firstRow));
        }
    }
}
