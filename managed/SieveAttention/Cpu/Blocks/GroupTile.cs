namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Consecutive query rows of all heads that share a key head. Scratch rows are ordered by query row, then head, so the heads of a row,
/// which share its selection, are neighbours.
/// </summary>
/// <param name="Batch">Entry of the batch.</param>
/// <param name="KeyHead">Key head.</param>
/// <param name="First">First query row.</param>
/// <param name="Count">Query rows.</param>
/// <param name="Group">Query heads of the key head.</param>
internal readonly record struct GroupTile(int Batch, int KeyHead, int First, int Count, int Group)
{
    /// <summary>Scratch rows.</summary>
    internal int Rows => Count * Group;

    /// <summary>Query head of a scratch row.</summary>
    internal int Head(int row) => (KeyHead * Group) + (row % Group);

    /// <summary>Query row of a scratch row.</summary>
    internal int QueryRow(int row) => First + (row / Group);
}

/// <summary>Cuts a problem into group tiles, and those into chunks whose gradients of keys and values are summed apart.</summary>
internal sealed class GroupSchedule
{
    private readonly AttentionProblem _problem;
    private readonly int _group;
    private readonly int _queryRows;

    /// <param name="problem">What is cut.</param>
    /// <param name="threads">Threads that share the chunks.</param>
    /// <param name="wantedRows">Scratch rows of a tile, unless a single query row has more heads; 64 fill register blocks.</param>
    internal GroupSchedule(in AttentionProblem problem, int threads, int wantedRows = 64)
    {
        _problem = problem;
        _group = problem.QueryHeads / problem.KeyHeads;
        _queryRows = Math.Max(1, wantedRows / _group);
        TilesPerHead = (problem.Queries + _queryRows - 1) / _queryRows;
        int heads = problem.Batch * problem.KeyHeads;
        ChunksPerHead = threads == 1 ? 1 : Math.Clamp(((2 * threads) + heads - 1) / heads, 1, TilesPerHead);
    }

    internal int TilesPerHead { get; }

    /// <summary>Chunks of each key head, at least two for each thread where there is more than one, so that they even out.</summary>
    internal int ChunksPerHead { get; }

    /// <summary>Scratch rows of the largest tile.</summary>
    internal int MaxRows => _queryRows * _group;

    internal int Group => _group;

    internal long Count => (long)_problem.Batch * _problem.KeyHeads * TilesPerHead;

    /// <summary>A tile by its number among all; within a head the last rows, which see most, come first.</summary>
    internal GroupTile this[long task]
    {
        get
        {
            (long head, long tile) = Math.DivRem(task, TilesPerHead);
            (long batch, head) = Math.DivRem(head, _problem.KeyHeads);
            return Tile((int)batch, (int)head, TilesPerHead - 1 - (int)tile);
        }
    }

    internal GroupTile Tile(int batch, int keyHead, int tile)
    {
        int first = tile * _queryRows;
        return new GroupTile(batch, keyHead, first, Math.Min(_queryRows, _problem.Queries - first), _group);
    }

    /// <summary>The tiles of a chunk: every n-th, so that each chunk has as many early as late rows.</summary>
    internal IEnumerable<GroupTile> Tiles(int batch, int keyHead, int chunk)
    {
        for (int tile = chunk; tile < TilesPerHead; tile += ChunksPerHead)
        {
            yield return Tile(batch, keyHead, tile);
        }
    }
}
