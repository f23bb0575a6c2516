namespace SieveAttention.Cpu.Schedule;

/// <summary>
/// Tasks for gradients that sum over queries (of keys and values): each takes consecutive query tiles of the query heads that share a key
/// head and sums into arrays of its own, which are added afterwards in the order of the chunks.
/// </summary>
/// <remarks>
/// There is one chunk a key head where that keeps all threads busy, else several, so the number of threads decides where sums are
/// cut: gradients of keys and values are bitwise repeatable for a given number of threads and differ in the last digits between numbers.
/// </remarks>
internal sealed class QueryChunks
{
    /// <summary>Tasks for each thread, so that unequal ones even out.</summary>
    private const int TasksPerThread = 4;

    private readonly TileSchedule _schedule;
    private readonly int _keyHeads;
    private readonly int _group;

    internal QueryChunks(AttentionProblem problem, TileSchedule schedule, int threads)
    {
        _schedule = schedule;
        _keyHeads = problem.KeyHeads;
        _group = problem.QueryHeads / problem.KeyHeads;
        int heads = problem.Batch * problem.KeyHeads;
        int wanted = threads == 1 ? 1 : ((TasksPerThread * threads) + heads - 1) / heads;
        ChunksPerHead = Math.Clamp(wanted, 1, _group * schedule.TilesPerHead);
    }

    /// <summary>Chunks of each key head.</summary>
    internal int ChunksPerHead { get; }

    /// <summary>The query tiles of a chunk, about the same number of key tiles in each.</summary>
    internal IEnumerable<QueryTile> Tiles(int batch, int keyHead, int chunk)
    {
        long total = 0;
        foreach (QueryTile tile in All(batch, keyHead))
        {
            total += Work(tile);
        }

        long before = 0;
        foreach (QueryTile tile in All(batch, keyHead))
        {
            if (before * ChunksPerHead / total == chunk)
            {
                yield return tile;
            }

            before += Work(tile);
        }
    }

    private static int Work(in QueryTile tile) => 1 + tile.EndKeyTile - tile.FirstKeyTile;

    private IEnumerable<QueryTile> All(int batch, int keyHead)
    {
        for (int head = keyHead * _group; head < (keyHead + 1) * _group; head++)
        {
            for (int tile = 0; tile < _schedule.TilesPerHead; tile++)
            {
                yield return _schedule.Tile(batch, head, tile);
            }
        }
    }
}
