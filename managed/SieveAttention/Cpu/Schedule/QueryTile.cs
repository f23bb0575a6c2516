using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Schedule;

/// <summary>The rows of one query head that one task computes.</summary>
/// <param name="Batch">Entry of the batch.</param>
/// <param name="Head">Query head.</param>
/// <param name="KeyHead">Key and value head of that query head.</param>
/// <param name="First">First query row.</param>
/// <param name="Rows">Number of rows, at most <see cref="MaxRows"/>.</param>
/// <param name="Keys">Keys that at least one of the rows sees; may be empty.</param>
internal readonly record struct QueryTile(int Batch, int Head, int KeyHead, int First, int Rows, KeyRange Keys)
{
    /// <summary>Rows of a full tile. With 64 channels a tile of queries and one of keys (16 KiB each) share the nearest cache.</summary>
    internal const int MaxRows = 64;

    /// <summary>First key tile with a visible key.</summary>
    internal int FirstKeyTile => Keys.First / ColumnPanels.TileRows;

    /// <summary>
    /// End of the key tiles with a visible key; those beyond, above the diagonal or before the window, are never visited.
    /// </summary>
    internal int EndKeyTile => Keys.Count == 0 ? FirstKeyTile : (Keys.End + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows;
}
