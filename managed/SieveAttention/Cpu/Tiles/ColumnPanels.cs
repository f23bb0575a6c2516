using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// The rows of a matrix as columns of right factors: what a product with a transposed matrix (Q K^T, dO V^T) reads. Rows are cut into
/// tiles of <see cref="TileRows"/>; a tile is a sequence of panels, and a panel holds, for each channel, that channel of its rows side by
/// side. Packed once per head and shared by every query tile and every query head of the group. Rows that fill up the last panel are
/// zero.
/// </summary>
internal sealed unsafe class ColumnPanels
{
    /// <summary>Rows of a tile: one bit each of a 64-bit word.</summary>
    internal const int TileRows = 64;

    private readonly float* _data;
    private readonly int _panelColumns;
    private readonly int _channels;

    /// <param name="arena">Where the panels live.</param>
    /// <param name="rows">Rows of the matrix.</param>
    /// <param name="channels">Channels of a row.</param>
    /// <param name="panelColumns">Columns of a panel: <see cref="MicroKernel{TLanes, TVector}.MaxColumns"/>, a divisor of <see
    /// cref="TileRows"/>.</param>
    internal ColumnPanels(FloatArena arena, int rows, int channels, int panelColumns)
    {
        _panelColumns = panelColumns;
        _channels = channels;
        int padded = (rows + panelColumns - 1) / panelColumns * panelColumns;
        _data = arena.Take((long)padded * channels);
    }

    /// <summary>A tile as right factor with <see cref="TileRows"/> columns and depth = channels.</summary>
    internal RightFactor Tile(int tile) =>
        new((nint)(_data + ((nint)tile * TileRows * _channels)), _panelColumns, (nint)_panelColumns * _channels);

    /// <summary>Transposes one tile of a row-major matrix without padding into place.</summary>
    internal void Fill(ReadOnlySpan<float> matrix, int tile, int rows)
    {
        fixed (float* source = matrix[(tile * TileRows * _channels)..])
        {
            Fill(tile, source, _channels, rows);
        }
    }

    /// <summary>Transposes one tile into place. The source may have padding between its rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Fill(int tile, float* source, int sourceStride, int rows)
    {
        for (int first = 0; first < rows; first += _panelColumns)
        {
            float* panel = _data + (((nint)tile * TileRows) + first) * _channels;
            int count = Math.Min(_panelColumns, rows - first);
            Transposition.Copy(source + ((nint)first * sourceStride), sourceStride, count, _channels, panel, _panelColumns);
            for (int channel = 0; count < _panelColumns && channel < _channels; channel++)
            {
                new Span<float>(panel + ((nint)channel * _panelColumns) + count, _panelColumns - count).Clear();
            }
        }
    }
}
