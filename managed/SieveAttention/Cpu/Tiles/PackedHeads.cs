using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// Keys and values of every key head, packed once on all cores; memory of the size of the inputs. Forward passes read keys as columns and
/// values as rows, backward passes both as both.
/// </summary>
internal sealed class PackedHeads : IDisposable
{
    private readonly int _keyHeads;
    private readonly FloatArena _arena = new(FloatArena.Large);
    private readonly ColumnPanels[] _keys;
    private readonly HeadValues[]? _keyRows;
    private readonly HeadValues[] _values;

    internal PackedHeads(
        AttentionProblem problem, TileSchedule schedule, CpuExecution execution, HostArray<float> k, HostArray<float> v, int panelColumns,
        bool backward)
    {
        _keyHeads = problem.KeyHeads;
        int heads = problem.Batch * problem.KeyHeads;
        _keys = new ColumnPanels[heads];
        _keyRows = backward ? new HeadValues[heads] : null;
        _values = new HeadValues[heads];
        for (int head = 0; head < heads; head++)
        {
            if (_keyRows is not null)
            {
                _keyRows[head] = new HeadValues(_arena, problem.Keys, problem.HeadDim, panelColumns, withColumns: true);
            }

            _keys[head] = _keyRows?[head].Columns ?? new ColumnPanels(_arena, problem.Keys, problem.HeadDim, panelColumns);
            _values[head] = new HeadValues(_arena, problem.Keys, problem.ValueDim, panelColumns, withColumns: backward);
        }

        schedule.ForEachKeyTile(execution, (batch, keyHead, keyTile) =>
        {
            int rows = schedule.KeysInTile(keyTile);
            Values(batch, keyHead).Fill(v.Head(batch, keyHead), keyTile, rows);
            if (backward)
            {
                KeyRows(batch, keyHead).Fill(k.Head(batch, keyHead), keyTile, rows);
            }
            else
            {
                Keys(batch, keyHead).Fill(k.Head(batch, keyHead), keyTile, rows);
            }
        });
    }

    internal ColumnPanels Keys(int batch, int keyHead) => _keys[(batch * _keyHeads) + keyHead];

    /// <summary>Keys as rows; backward only.</summary>
    internal HeadValues KeyRows(int batch, int keyHead) => _keyRows![(batch * _keyHeads) + keyHead];

    internal HeadValues Values(int batch, int keyHead) => _values[(batch * _keyHeads) + keyHead];

    public void Dispose() => _arena.Dispose();
}
