using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Values of one head: rows, which tiles are finite, and, for the backward pass only, columns.</summary>
internal sealed class HeadValues
{
    private readonly bool[] _finite;

    internal HeadValues(FloatArena arena, int keys, int channels, int panelColumns, bool withColumns)
    {
        Rows = new PaddedRows(arena, keys, channels);
        Columns = withColumns ? new ColumnPanels(arena, keys, channels, panelColumns) : null;
        _finite = new bool[(keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows];
    }

    internal PaddedRows Rows { get; }

    internal ColumnPanels? Columns { get; }

    /// <summary>Whether the tile has neither NaN nor infinity, so that a weight of 0 may be multiplied with it.</summary>
    internal bool IsFinite(int tile) => _finite[tile];

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal unsafe void Fill(ReadOnlySpan<float> head, int tile, int rows)
    {
        int first = tile * ColumnPanels.TileRows;
        ReadOnlySpan<float> source = head.Slice(first * Rows.Channels, rows * Rows.Channels);
        _finite[tile] = RowMath.IsFinite(source);
        Rows.Fill(source, first, rows);
        Columns?.Fill(tile, Rows.Row(first), Rows.Stride, rows);
    }
}
