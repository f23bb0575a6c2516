using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Schedule;

/// <summary>Work on one key tile of one key head.</summary>
internal delegate void KeyTileWork(int batch, int keyHead, int keyTile);

/// <summary>
/// Cuts a problem into query tiles. The tiles of a head follow each other, so that its keys and values stay in the shared cache, the
/// longest first, so that the last tasks are short and all cores finish together.
/// </summary>
internal sealed class TileSchedule(AttentionProblem problem)
{
    private readonly AttentionProblem _problem = problem;

    internal int TilesPerHead { get; } = (problem.Queries + QueryTile.MaxRows - 1) / QueryTile.MaxRows;

    internal int KeyTiles { get; } = (problem.Keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows;

    /// <summary>Number of query tiles of all heads.</summary>
    internal long Count => (long)_problem.Batch * _problem.QueryHeads * TilesPerHead;

    /// <summary>The query tile of a task.</summary>
    internal QueryTile this[long task]
    {
        get
        {
            (long head, long tile) = Math.DivRem(task, TilesPerHead);
            (long batch, head) = Math.DivRem(head, _problem.QueryHeads);
            return Tile((int)batch, (int)head, TilesPerHead - 1 - (int)tile);
        }
    }

    /// <summary>Tile <paramref name="tile"/> of a head, in the order of its rows.</summary>
    internal QueryTile Tile(int batch, int head, int tile)
    {
        int first = tile * QueryTile.MaxRows;
        int rows = Math.Min(QueryTile.MaxRows, _problem.Queries - first);
        // Both ends of the visible range grow with the row, so the first and the last row bound it.
        KeyRange keys = new(_problem.Visible(first).First, _problem.Visible(first + rows - 1).End);
        return new QueryTile(batch, head, _problem.KeyHead(head), first, rows, keys.Count > 0 ? keys : new KeyRange(0, 0));
    }

    /// <summary>
    /// Position of a query tile among all, in the order of batch, head and rows: a place for what it contributes to a sum.
    /// </summary>
    internal long IndexOf(in QueryTile tile) =>
        ((((long)tile.Batch * _problem.QueryHeads) + tile.Head) * TilesPerHead) + (tile.First / QueryTile.MaxRows);

    /// <summary>Runs work on every key tile of every key head on all cores: packing before, or collecting after the query tiles.</summary>
    internal void ForEachKeyTile(CpuExecution execution, KeyTileWork work) =>
        Workers.Run(execution with { Progress = null }, (long)_problem.Batch * _problem.KeyHeads * KeyTiles, task =>
        {
            (long head, long keyTile) = Math.DivRem(task, KeyTiles);
            (long batch, long keyHead) = Math.DivRem(head, _problem.KeyHeads);
            work((int)batch, (int)keyHead, (int)keyTile);
        });

    /// <summary>Keys in a key tile.</summary>
    internal int KeysInTile(int keyTile) => Math.Min(ColumnPanels.TileRows, _problem.Keys - (keyTile * ColumnPanels.TileRows));

    /// <summary>
    /// The columns of a key tile that a query row sees, as the range First &lt;= column &lt; End within the tile; empty where First = End.
    /// </summary>
    internal KeyRange VisibleColumns(int queryRow, int keyTile)
    {
        KeyRange keys = _problem.Visible(queryRow);
        int origin = keyTile * ColumnPanels.TileRows;
        int first = Math.Clamp(keys.First - origin, 0, ColumnPanels.TileRows);
        int end = Math.Clamp(keys.End - origin, first, ColumnPanels.TileRows);
        return new KeyRange(first, end);
    }

    /// <summary>Bit c is set iff the query row sees column c of the key tile.</summary>
    internal ulong VisibleBits(int queryRow, int keyTile)
    {
        KeyRange columns = VisibleColumns(queryRow, keyTile);
        return columns.Count == 0 ? 0 : (ulong.MaxValue >> (64 - columns.Count)) << columns.First;
    }

    /// <summary>Whether every row of the query tile sees every key of a full key tile: no masking is needed.</summary>
    internal bool SeesWholeTile(in QueryTile tile, int keyTile)
    {
        KeyRange first = VisibleColumns(tile.First, keyTile);
        KeyRange last = VisibleColumns(tile.First + tile.Rows - 1, keyTile);
        return first is { First: 0, End: ColumnPanels.TileRows } && last is { First: 0, End: ColumnPanels.TileRows };
    }
}
