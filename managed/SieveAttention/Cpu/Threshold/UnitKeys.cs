using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Keys of one view, divided by their norms once for all query tiles and query heads: as columns for scores and as rows.</summary>
internal sealed class UnitKeys
{
    private readonly bool[] _finite;
    private readonly ColumnPanels _columns;
    private readonly bool[] _hasColumns;

    internal UnitKeys(FloatArena arena, int keys, int channels, int panelColumns, bool screened)
    {
        Screen = screened ? new ScreenedKeys(arena, keys, channels, panelColumns) : null;
        Rows = new PaddedRows(arena, keys, channels);
        _columns = new ColumnPanels(arena, keys, channels, panelColumns);
        InverseNorms = new float[keys];
        _hasColumns = new bool[(keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows];
        _finite = new bool[(keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows];
    }

    internal PaddedRows Rows { get; }

    internal float[] InverseNorms { get; }

    /// <summary>The rows as bytes; null where nothing is screened.</summary>
    internal ScreenedKeys? Screen { get; }

    /// <summary>Whether the unit rows of a tile have neither NaN nor infinity, so that 0 may be multiplied with them.</summary>
    internal bool IsFinite(int tile) => _finite[tile];

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal unsafe void Fill(ReadOnlySpan<float> head, int tile, int rows)
    {
        int first = tile * ColumnPanels.TileRows;
        int channels = Rows.Channels;
        bool finite = true;
        for (int row = first; row < first + rows; row++)
        {
            float inverse = UnitRow.Normalize(head.Slice(row * channels, channels), Rows.Span(row));
            finite &= UnitRow.IsFinite(inverse);
            InverseNorms[row] = inverse;
            Rows.ClearPadding(row);
        }

        _finite[tile] = finite;
        if (finite)
        {
            Screen?.Fill(tile, Rows, rows);
        }

        _hasColumns[tile] = false;
        if (Screen is null || !finite)
        {
            Columns(tile);
        }
    }

    /// <summary>
    /// A tile as columns, transposed when it is first asked for: most tiles of a screened head never are. By any thread at any time:
    /// where two come at once, both write the same numbers.
    /// </summary>
    internal unsafe RightFactor Columns(int tile)
    {
        if (!Volatile.Read(ref _hasColumns[tile]))
        {
            int first = tile * ColumnPanels.TileRows;
            _columns.Fill(tile, Rows.Row(first), Rows.Stride, Math.Min(ColumnPanels.TileRows, Rows.Rows - first));
            Volatile.Write(ref _hasColumns[tile], true);
        }

        return _columns.Tile(tile);
    }
}
