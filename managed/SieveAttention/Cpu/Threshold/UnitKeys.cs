using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Keys of one view, divided by their norms once for all query tiles and query heads: as columns for scores and as rows.</summary>
internal sealed class UnitKeys
{
    private readonly bool[] _finite;

    internal UnitKeys(FloatArena arena, int keys, int channels, int panelColumns, bool screened)
    {
        Screen = screened ? new ScreenedKeys(arena, keys, channels, panelColumns) : null;
        Rows = new PaddedRows(arena, keys, channels);
        Columns = new ColumnPanels(arena, keys, channels, panelColumns);
        InverseNorms = new float[keys];
        _finite = new bool[(keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows];
    }

    internal PaddedRows Rows { get; }

    internal ColumnPanels Columns { get; }

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

        Columns.Fill(tile, Rows.Row(first), Rows.Stride, rows);
    }
}
