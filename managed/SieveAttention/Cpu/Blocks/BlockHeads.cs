using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Keys and values of every key head in the forms that products read: keys as columns and values as rows, for the backward pass also the
/// other way round. Packed once on all cores; memory of the size of the inputs.
/// </summary>
internal sealed class BlockHeads : IDisposable
{
    private readonly FloatArena _arena = new(FloatArena.Large);
    private readonly int _keyHeads;
    private readonly BlockHead[] _heads;

    internal BlockHeads(
        in AttentionProblem problem, CpuExecution execution, HostArray<float> k, HostArray<float> v, int panelColumns, bool backward)
    {
        _keyHeads = problem.KeyHeads;
        _heads = new BlockHead[problem.Batch * problem.KeyHeads];
        for (int head = 0; head < _heads.Length; head++)
        {
            _heads[head] = new BlockHead(
                new ColumnPanels(_arena, problem.Keys, problem.HeadDim, panelColumns),
                new PaddedRows(_arena, problem.Keys, problem.ValueDim),
                backward ? new PaddedRows(_arena, problem.Keys, problem.HeadDim) : null,
                backward ? new ColumnPanels(_arena, problem.Keys, problem.ValueDim, panelColumns) : null,
                new bool[((problem.Keys - 1) / ColumnPanels.TileRows) + 1]);
        }

        new TileSchedule(problem).ForEachKeyTile(execution, (batch, keyHead, keyTile) => Fill(batch, keyHead, keyTile, k, v));
    }

    internal BlockHead this[int batch, int keyHead] => _heads[(batch * _keyHeads) + keyHead];

    public void Dispose() => _arena.Dispose();

    private void Fill(int batch, int keyHead, int keyTile, HostArray<float> k, HostArray<float> v)
    {
        BlockHead head = this[batch, keyHead];
        int first = keyTile * ColumnPanels.TileRows;
        int rows = Math.Min(ColumnPanels.TileRows, k.Shape.Rows - first);
        ReadOnlySpan<float> keys = k.Head(batch, keyHead);
        ReadOnlySpan<float> values = v.Head(batch, keyHead);
        ReadOnlySpan<float> tileKeys = keys.Slice(first * k.Shape.Channels, rows * k.Shape.Channels);
        ReadOnlySpan<float> tileValues = values.Slice(first * v.Shape.Channels, rows * v.Shape.Channels);
        head.Keys.Fill(keys, keyTile, rows);
        head.Values.Fill(tileValues, first, rows);
        head.KeyRows?.Fill(tileKeys, first, rows);
        head.ValueColumns?.Fill(values, keyTile, rows);
        head.Finite[keyTile] = RowMath.IsFinite(tileKeys) && RowMath.IsFinite(tileValues);
    }
}

/// <summary>One key head.</summary>
/// <param name="Keys">Keys as columns.</param>
/// <param name="Values">Values as rows.</param>
/// <param name="KeyRows">Keys as rows; backward only.</param>
/// <param name="ValueColumns">Values as columns; backward only.</param>
/// <param name="Finite">Whether a tile of 64 keys has neither NaN nor infinity.</param>
internal sealed record BlockHead(ColumnPanels Keys, PaddedRows Values, PaddedRows? KeyRows, ColumnPanels? ValueColumns, bool[] Finite);
