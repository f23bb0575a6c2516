using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

internal sealed class ScheduleTests
{
    [Test]
    public void Every_query_row_is_in_exactly_one_tile_and_every_visible_key_in_its_key_tiles()
    {
        Properties.ForAllSeeds(seed =>
        {
            AttentionProblem problem = RandomProblem(seed);
            TileSchedule schedule = new(problem);
            int[,,] visits = new int[problem.Batch, problem.QueryHeads, problem.Queries];
            for (long task = 0; task < schedule.Count; task++)
            {
                QueryTile tile = schedule[task];
                Assert.That(tile.KeyHead, Is.EqualTo(problem.KeyHead(tile.Head)));
                Assert.That(schedule.Tile(tile.Batch, tile.Head, tile.First / QueryTile.MaxRows), Is.EqualTo(tile));
                for (int row = tile.First; row < tile.First + tile.Rows; row++)
                {
                    visits[tile.Batch, tile.Head, row]++;
                    AssertColumns(problem, schedule, tile, row);
                }
            }

            foreach (int count in visits)
            {
                Assert.That(count, Is.EqualTo(1));
            }
        });
    }

    [Test]
    public void Key_tiles_above_the_diagonal_and_before_the_window_are_not_visited()
    {
        AttentionProblem problem = new(1, 1, 1, 640, 640, 8, 8, Causal: true, QueryOffset: 0, Window: 64);
        TileSchedule schedule = new(problem);
        QueryTile tile = schedule.Tile(0, 0, 5);
        Assert.That((tile.FirstKeyTile, tile.EndKeyTile), Is.EqualTo((4, 6)));
    }

    [Test]
    public void Places_of_tiles_are_distinct_and_dense()
    {
        TileSchedule schedule = new(new AttentionProblem(2, 3, 1, 200, 70, 8, 8, Causal: true, QueryOffset: -130, Window: 0));
        HashSet<long> places = [];
        for (long task = 0; task < schedule.Count; task++)
        {
            places.Add(schedule.IndexOf(schedule[task]));
        }

        Assert.That(places, Has.Count.EqualTo((int)schedule.Count));
        Assert.That(places.Max(), Is.EqualTo(schedule.Count - 1));
    }

    [Test]
    public void Chunks_partition_the_query_tiles_of_a_key_head([Values(1, 2, 3, 16)] int threads)
    {
        Properties.ForAllSeeds(seed =>
        {
            AttentionProblem problem = RandomProblem(seed);
            TileSchedule schedule = new(problem);
            QueryChunks chunks = new(problem, schedule, threads);
            List<long> places = [];
            for (int head = 0; head < problem.Batch * problem.KeyHeads; head++)
            {
                for (int chunk = 0; chunk < chunks.ChunksPerHead; chunk++)
                {
                    places.AddRange(chunks.Tiles(head / problem.KeyHeads, head % problem.KeyHeads, chunk)
                        .Select(tile => schedule.IndexOf(tile)));
                }
            }

            Assert.That(places, Is.EqualTo(Enumerable.Range(0, (int)schedule.Count).Select(place => (long)place)));
        });
    }

    [Test]
    public unsafe void Masked_scores_are_minus_infinity_and_no_others()
    {
        AttentionProblem problem = new(1, 1, 1, 100, 90, 8, 8, Causal: true, QueryOffset: -20, Window: 30);
        TileSchedule schedule = new(problem);
        using FloatArena arena = new(FloatArena.Small);
        ScoreTile scores = new(arena);
        foreach (int queryTile in new[] { 0, 1 })
        {
            QueryTile tile = schedule.Tile(0, 0, queryTile);
            for (int keyTile = 0; keyTile < 2; keyTile++)
            {
                new Span<float>(scores.Data, 64 * 64).Fill(1);
                scores.Mask(schedule, tile, keyTile);
                for (int row = 0; row < tile.Rows; row++)
                {
                    KeyRange visible = problem.Visible(tile.First + row);
                    for (int column = 0; column < 64; column++)
                    {
                        int key = (keyTile * 64) + column;
                        float expected = key >= visible.First && key < visible.End ? 1 : float.NegativeInfinity;
                        Assert.That(scores.Row(row)[column], Is.EqualTo(expected), $"row {tile.First + row}, key {key}");
                    }
                }
            }
        }
    }

    private static AttentionProblem RandomProblem(int seed)
    {
        Random random = new(seed);
        int keyHeads = random.Next(1, 4);
        int keys = random.Next(1, 300);
        return new AttentionProblem(
            random.Next(1, 3), keyHeads * random.Next(1, 4), keyHeads, random.Next(1, 300), keys, 8, 8, random.Next(2) == 0,
            random.Next(-100, keys + 50), random.Next(2) == 0 ? 0 : random.Next(1, 150));
    }

    private static void AssertColumns(AttentionProblem problem, TileSchedule schedule, QueryTile tile, int row)
    {
        KeyRange visible = problem.Visible(row);
        int seen = 0;
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            KeyRange columns = schedule.VisibleColumns(row, keyTile);
            seen += columns.Count;
            if (columns.Count > 0)
            {
                Assert.That((keyTile * 64) + columns.First, Is.GreaterThanOrEqualTo(visible.First));
                Assert.That((keyTile * 64) + columns.End, Is.LessThanOrEqualTo(visible.End));
                Assert.That(columns.End, Is.LessThanOrEqualTo(schedule.KeysInTile(keyTile)));
            }

            if (schedule.SeesWholeTile(tile, keyTile))
            {
                Assert.That(columns, Is.EqualTo(new KeyRange(0, ColumnPanels.TileRows)));
            }
        }

        Assert.That(seen, Is.EqualTo(visible.Count), $"row {row} sees {visible.Count} keys, of which {seen} are in the tiles visited");
    }
}
