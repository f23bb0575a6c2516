using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>Gradients of the keys and values of one key head, summed over the rows of one chunk.</summary>
internal sealed class KeySums : IDisposable
{
    private readonly FloatArena _arena = new(FloatArena.Large);

    internal KeySums(in AttentionProblem problem)
    {
        Key = new PaddedRows(_arena, problem.Keys, problem.HeadDim);
        Value = new PaddedRows(_arena, problem.Keys, problem.ValueDim);
        Key.Clear(problem.Keys);
        Value.Clear(problem.Keys);
    }

    internal PaddedRows Key { get; }

    internal PaddedRows Value { get; }

    public void Dispose() => _arena.Dispose();

    /// <summary>Runs work on every chunk of rows on all cores, and adds up what the chunks of a head found, in their order.</summary>
    internal static void Run<TScratch>(
        AttentionProblem problem,
        GroupSchedule schedule,
        CpuExecution execution,
        RowGradients<float> total,
        Func<FloatArena, TScratch> makeScratch,
        Action<GroupTile, TScratch, KeySums> work)
    {
        KeySums?[] sums = new KeySums?[problem.Batch * problem.KeyHeads * schedule.ChunksPerHead];
        try
        {
            Workers.Run(execution, sums.Length, makeScratch, (task, scratch) =>
            {
                (int head, int chunk) = Math.DivRem((int)task, schedule.ChunksPerHead);
                KeySums part = sums[task] = new KeySums(problem);
                foreach (GroupTile tile in schedule.Tiles(head / problem.KeyHeads, head % problem.KeyHeads, chunk))
                {
                    work(tile, scratch, part);
                }
            });
            new TileSchedule(problem).ForEachKeyTile(execution, (batch, keyHead, keyTile) =>
            {
                int first = ((batch * problem.KeyHeads) + keyHead) * schedule.ChunksPerHead;
                int end = Math.Min((keyTile + 1) * ColumnPanels.TileRows, problem.Keys);
                foreach (KeySums? part in sums.AsSpan(first, schedule.ChunksPerHead))
                {
                    for (int key = keyTile * ColumnPanels.TileRows; key < end; key++)
                    {
                        RowMath.Add(part!.Key.Span(key), total.Key.Row(batch, keyHead, key));
                        RowMath.Add(part.Value.Span(key), total.Value.Row(batch, keyHead, key));
                    }
                }
            });
        }
        finally
        {
            foreach (KeySums? part in sums)
            {
                part?.Dispose();
            }
        }
    }
}
