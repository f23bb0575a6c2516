using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Keys as columns and values as rows of every key head, packed once on all cores; memory of the size of the inputs.</summary>
internal sealed class PackedHeads : IDisposable
{
    private readonly int _keyHeads;
    private readonly FloatArena _arena = new(FloatArena.Large);
    private readonly ColumnPanels[] _keys;
    private readonly HeadValues[] _values;

    internal PackedHeads(
        AttentionProblem problem, TileSchedule schedule, CpuExecution execution, HostArray<float> k, HostArray<float> v, int panelColumns)
    {
        _keyHeads = problem.KeyHeads;
        int heads = problem.Batch * problem.KeyHeads;
        _keys = new ColumnPanels[heads];
        _values = new HeadValues[heads];
        for (int head = 0; head < heads; head++)
        {
            _keys[head] = new ColumnPanels(_arena, problem.Keys, problem.HeadDim, panelColumns);
            _values[head] = new HeadValues(_arena, problem.Keys, problem.ValueDim, panelColumns, withColumns: false);
        }

        schedule.ForEachKeyTile(execution, (batch, keyHead, keyTile) =>
        {
            int rows = schedule.KeysInTile(keyTile);
            Keys(batch, keyHead).Fill(k.Head(batch, keyHead), keyTile, rows);
            Values(batch, keyHead).Fill(v.Head(batch, keyHead), keyTile, rows);
        });
    }

    internal ColumnPanels Keys(int batch, int keyHead) => _keys[(batch * _keyHeads) + keyHead];

    internal HeadValues Values(int batch, int keyHead) => _values[(batch * _keyHeads) + keyHead];

    public void Dispose() => _arena.Dispose();
}
