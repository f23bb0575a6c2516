using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Everything that the query tiles read, packed for each key head; memory of the size of the inputs.</summary>
internal sealed class ThresholdKeys : IDisposable
{
    private readonly int _keyHeads;
    private readonly UnitKeys[] _view1;
    private readonly UnitKeys[] _view2;
    private readonly HeadValues[] _values;

    internal ThresholdKeys(
        CpuExecution execution,
        AttentionProblem problem,
        TileSchedule schedule,
        HostArray<float> k1,
        HostArray<float>? k2,
        HostArray<float> v,
        int panelColumns,
        bool backward)
    {
        _keyHeads = problem.KeyHeads;
        int heads = problem.Batch * problem.KeyHeads;
        _view1 = new UnitKeys[heads];
        _view2 = new UnitKeys[k2 is null ? 0 : heads];
        _values = new HeadValues[heads];
        for (int head = 0; head < heads; head++)
        {
            _view1[head] = new UnitKeys(problem.Keys, problem.HeadDim, panelColumns);
            _values[head] = new HeadValues(problem.Keys, problem.ValueDim, panelColumns, backward);
            if (k2 is not null)
            {
                _view2[head] = new UnitKeys(problem.Keys, problem.HeadDim, panelColumns);
            }
        }

        Workers.Run(execution with { Progress = null }, (long)heads * schedule.KeyTiles, task =>
        {
            (long head, long tile) = Math.DivRem(task, schedule.KeyTiles);
            (int batch, int keyHead) = Math.DivRem((int)head, _keyHeads);
            int rows = schedule.KeysInTile((int)tile);
            _view1[head].Fill(k1.Head(batch, keyHead), (int)tile, rows);
            _values[head].Fill(v.Head(batch, keyHead), (int)tile, rows);
            if (k2 is not null)
            {
                _view2[head].Fill(k2.Head(batch, keyHead), (int)tile, rows);
            }
        });
    }

    internal UnitKeys View1(int batch, int keyHead) => _view1[(batch * _keyHeads) + keyHead];

    internal UnitKeys View2(int batch, int keyHead) => _view2[(batch * _keyHeads) + keyHead];

    internal HeadValues Values(int batch, int keyHead) => _values[(batch * _keyHeads) + keyHead];

    public void Dispose()
    {
        foreach (IDisposable part in (IEnumerable<IDisposable>)[.. _view1, .. _view2, .. _values])
        {
            part.Dispose();
        }
    }
}
