using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Scores, weights or gradients of one query tile and one key tile; rows of <see cref="ColumnPanels.TileRows"/> floats.</summary>
internal sealed unsafe class ScoreTile(FloatArena arena)
{
    internal const int Stride = ColumnPanels.TileRows;

    internal float* Data { get; } = arena.Take(QueryTile.MaxRows * ColumnPanels.TileRows);

    internal LeftFactor Left => new(Data, Stride);

    internal float* Row(int row) => Data + (row * Stride);

    /// <summary>
    /// Writes a value where a row does not see a key and where the last key tile has no key. Scores become -infinity there: a threshold is
    /// above it, its exponential is 0. Weights and gradients become 0.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Mask(TileSchedule schedule, in QueryTile tile, int keyTile, float value = float.NegativeInfinity)
    {
        if (schedule.SeesWholeTile(tile, keyTile))
        {
            return;
        }

        for (int row = 0; row < tile.Rows; row++)
        {
            KeyRange columns = schedule.VisibleColumns(tile.First + row, keyTile);
            Span<float> scores = new(Row(row), Stride);
            scores[..columns.First].Fill(value);
            scores[columns.End..].Fill(value);
        }
    }
}
