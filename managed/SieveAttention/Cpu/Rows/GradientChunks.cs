using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>Adds the gradients of one query tile to those of its queries and to <paramref name="sums"/>.</summary>
internal delegate void QueryTileGradient<TScratch>(in QueryTile tile, TScratch scratch, KeyValueSums sums);

/// <summary>
/// Runs a backward pass over all query tiles and adds up what they contribute to keys and values. See <see cref="QueryChunks"/> for the
/// order of the sums.
/// </summary>
internal sealed class GradientChunks(AttentionProblem problem, TileSchedule schedule, CpuExecution execution)
{
    private readonly QueryChunks _chunks = new(problem, schedule, execution.Threads);

    internal void Run<TScratch>(
        Func<FloatArena, TScratch> makeScratch, QueryTileGradient<TScratch> differentiate, HostArray<float> dk, HostArray<float> dv)
    {
        KeyValueSums?[] partial = new KeyValueSums?[problem.Batch * problem.KeyHeads * _chunks.ChunksPerHead];
        try
        {
            Workers.Run(execution, partial.Length, makeScratch, (task, scratch) =>
            {
                (int head, int chunk) = Math.DivRem((int)task, _chunks.ChunksPerHead);
                (int batch, int keyHead) = Math.DivRem(head, problem.KeyHeads);
                QueryTile[] tiles = [.. _chunks.Tiles(batch, keyHead, chunk)];
                KeyValueSums sums = partial[task] = new KeyValueSums(problem, Seen(tiles));
                foreach (QueryTile tile in tiles)
                {
                    differentiate(tile, scratch, sums);
                }
            });
            schedule.ForEachKeyTile(execution, (batch, keyHead, keyTile) => Collect(batch, keyHead, keyTile, partial!, dk, dv));
        }
        finally
        {
            foreach (KeyValueSums? sums in partial)
            {
                sums?.Dispose();
            }
        }
    }

    /// <summary>The keys of all key tiles that a chunk visits.</summary>
    private KeyRange Seen(QueryTile[] tiles)
    {
        int first = problem.Keys;
        int end = 0;
        foreach (QueryTile tile in tiles)
        {
            if (tile.Keys.Count > 0)
            {
                first = Math.Min(first, tile.FirstKeyTile * ColumnPanels.TileRows);
                end = Math.Max(end, Math.Min(problem.Keys, tile.EndKeyTile * ColumnPanels.TileRows));
            }
        }

        return first < end ? new KeyRange(first, end) : new KeyRange(0, 0);
    }

    /// <summary>Adds the chunks of one key tile, in their order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Collect(int batch, int keyHead, int keyTile, KeyValueSums[] partial, HostArray<float> dk, HostArray<float> dv)
    {
        int firstChunk = ((batch * problem.KeyHeads) + keyHead) * _chunks.ChunksPerHead;
        int first = keyTile * ColumnPanels.TileRows;
        for (int key = first; key < first + schedule.KeysInTile(keyTile); key++)
        {
            Span<float> dkey = dk.Row(batch, keyHead, key);
            Span<float> dvalue = dv.Row(batch, keyHead, key);
            foreach (KeyValueSums chunk in partial.AsSpan(firstChunk, _chunks.ChunksPerHead))
            {
                if (chunk.Keys.First <= key && key < chunk.Keys.End)
                {
                    RowMath.Add(chunk.Key.Span(key - chunk.Keys.First), dkey);
                    RowMath.Add(chunk.Value.Span(key - chunk.Keys.First), dvalue);
                }
            }
        }
    }
}
