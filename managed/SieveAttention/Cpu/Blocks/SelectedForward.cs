using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The sparse stream: selection and attention over the selected blocks. Rows come in tiles; within a tile every block is fetched once and
/// multiplied with all rows that selected it, because a row alone would wait for memory: it reads a block for a few multiplications.
/// Blocks that no row of the tile selects are not touched.
/// </summary>
internal sealed class SelectedForward(
    AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<float> inputs, CpuExecution execution) : ILaneWork
{
    /// <summary>
    /// Scratch rows of a tile: with 16 of 512 blocks a row, a block meets 16 rows of 512 on average. Fewer where there are not four tiles
    /// for each thread.
    /// </summary>
    private const int MostRows = 512;

    /// <summary>Floats of the scores of a tile: half a second-level cache of 1 MB.</summary>
    private const int MostScores = 1 << 17;

    private readonly HostArray<float> _output = new(problem.OutputShape);
    private readonly float[] _lse = new float[problem.RowShape.Count];

    internal BlockLists Blocks { get; } = inputs.Blocks ?? new BlockLists(problem, parameters.BlockSize, parameters.BlockCount);

    internal SparseSparseOutput<float> Result => new(_output, _lse);

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using BlockPanels panels = new(problem, execution, parameters.BlockSize, inputs.Key, inputs.Value, TLanes.Count);
        using PooledBlocks? pooled = inputs.Blocks is null
            ? new PooledBlocks(problem, execution, parameters.BlockSize, inputs.Key, MicroKernel<TLanes, TVector>.MaxColumns)
            : null;
        long stripLength = (long)Math.Min(Blocks.BlockCount, BlocksOfKeys) * panels.Columns;
        long rows = Math.Min(MostRows, problem.RowShape.Count / (4L * execution.Threads));
        GroupSchedule schedule = new(problem, execution.Threads, (int)Math.Max(64, Math.Min(rows, MostScores / stripLength)));
        Workers.Run(execution, schedule.Count, arena => new Scratch(this, schedule, pooled, arena, stripLength), (task, scratch) =>
        {
            GroupTile tile = schedule[task];
            scratch.Begin(tile, inputs.Query, (float)parameters.Scale);
            scratch.Chooser?.Select<TLanes, TVector>(tile, inputs.Query, scratch.Queries, Blocks);
            scratch.Visits.Set(tile, Blocks);
            Score<TLanes, TVector>(tile, panels, scratch);
            Weigh<TLanes, TVector>(tile, panels.Columns, scratch);
            Sum<TLanes, TVector>(tile, panels, scratch);
            for (int row = 0; row < tile.Rows; row++)
            {
                if (scratch.Totals[row] != 0)
                {
                    RowMath.Scale(
                        scratch.Sums.Span(row), 1 / scratch.Totals[row], _output.Row(tile.Batch, tile.Head(row), tile.QueryRow(row)));
                }
            }
        });
    }

    private int BlocksOfKeys => Reference.BlockSelector.BlocksOf(problem, parameters.BlockSize);

    /// <summary>Scores of the selected keys; -infinity where a slot has no visible key.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void Score<TLanes, TVector>(in GroupTile tile, BlockPanels panels, Scratch scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int columns = panels.Columns;
        RowPairs rows = scratch.Rows;
        for (int block = 0; block < scratch.Visits.End; block++)
        {
            ReadOnlySpan<(int Row, int Slot)> visits = scratch.Visits.Of(block);
            if (visits.IsEmpty)
            {
                continue;
            }

            rows.Clear();
            foreach ((int n, int slot) in visits)
            {
                for (int row = n * tile.Group; row < (n + 1) * tile.Group; row++)
                {
                    rows.Add(scratch.Queries.Row(row), scratch.Slot(row, slot, columns));
                }
            }

            GatheredProduct<TLanes, TVector>.Multiply(
                rows, panels.Keys(tile.Batch, tile.KeyHead, block), columns, problem.HeadDim, columns, accumulate: false);
            if (SeenInPart(tile, block) || columns > Blocks.BlockSize)
            {
                foreach ((int n, int slot) in visits)
                {
                    int visible = Blocks.Keys(tile.First + n, block).Count;
                    for (int row = n * tile.Group; row < (n + 1) * tile.Group; row++)
                    {
                        new Span<float>(scratch.Slot(row, slot, columns) + visible, columns - visible).Fill(float.NegativeInfinity);
                    }
                }
            }
        }
    }

    /// <summary>Whether any row of a tile might see only the first keys of a block: it does not end before the first row.</summary>
    private bool SeenInPart(in GroupTile tile, int block) =>
        (block + 1L) * Blocks.BlockSize > tile.First + problem.QueryOffset + 1;

    /// <summary>Scores to weights relative to the largest of a row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void Weigh<TLanes, TVector>(in GroupTile tile, int columns, Scratch scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            int length = columns * Blocks.Used(tile.Batch, tile.KeyHead, tile.QueryRow(row)).Length;
            float* scores = scratch.Slot(row, 0, columns);
            TVector highest = TLanes.Broadcast(float.NegativeInfinity);
            for (int c = 0; c < length; c += TLanes.Count)
            {
                highest = TLanes.Max(highest, TLanes.Load(scores + c));
            }

            float largest = TLanes.Largest(highest);
            TVector shift = TLanes.Broadcast(largest);
            TVector total = default;
            for (int c = 0; c < length; c += TLanes.Count)
            {
                TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + c), shift));
                TLanes.Store(scores + c, weight);
                total = TLanes.Add(total, weight);
            }

            float sum = TLanes.Sum(total);
            scratch.Totals[row] = sum;
            _lse[(((tile.Batch * problem.QueryHeads) + tile.Head(row)) * problem.Queries) + tile.QueryRow(row)] =
                largest + MathF.Log(sum);
        }
    }

    /// <summary>Sums of weights times values. A block that a row sees in part is multiplied as far as the row sees it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe void Sum<TLanes, TVector>(in GroupTile tile, BlockPanels panels, Scratch scratch)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        RowPairs rows = scratch.Rows;
        rows.Clear();
        scratch.Sums.Clear(tile.Rows);
        for (int block = 0; block < scratch.Visits.End; block++)
        {
            float* values = panels.Values(tile.Batch, tile.KeyHead, block * Blocks.BlockSize);
            bool inPart = SeenInPart(tile, block);
            int depth = Blocks.BlockSize;
            foreach ((int n, int slot) in scratch.Visits.Of(block))
            {
                if (inPart && Blocks.Keys(tile.First + n, block).Count is int visible && visible != depth)
                {
                    Add(values, depth);
                    depth = visible;
                }

                for (int row = n * tile.Group; row < (n + 1) * tile.Group; row++)
                {
                    rows.Add(scratch.Slot(row, slot, panels.Columns), scratch.Sums.Row(row));
                }
            }

            Add(values, depth);
        }

        void Add(float* values, int depth)
        {
            if (rows.Count > 0)
            {
                GatheredProduct<TLanes, TVector>.Multiply(
                    rows, values, panels.ValueStride, depth, problem.ValueDim, accumulate: true);
                rows.Clear();
            }
        }
    }

    /// <summary>Scratch of one thread.</summary>
    private sealed unsafe class Scratch
    {
        private readonly float* _scores;
        private readonly nint _stripLength;

        internal Scratch(SelectedForward pass, GroupSchedule schedule, PooledBlocks? pooled, FloatArena arena, long stripLength)
        {
            AttentionProblem problem = pass.Problem;
            _stripLength = (nint)stripLength;
            _scores = arena.Take(schedule.MaxRows * stripLength);
            Queries = new PaddedRows(arena, schedule.MaxRows, problem.HeadDim);
            Sums = new PaddedRows(arena, schedule.MaxRows, problem.ValueDim);
            Rows = new RowPairs(arena, schedule.MaxRows, (int)Math.Max(stripLength, Sums.Stride));
            Totals = new float[schedule.MaxRows];
            Visits = new BlockVisits(pass.BlocksOfKeys);
            Chooser = pooled is null ? null : new BlockChooser(problem, pass.Parameters, pooled, arena);
        }

        internal PaddedRows Queries { get; }

        internal PaddedRows Sums { get; }

        /// <summary>The rows of the product at hand.</summary>
        internal RowPairs Rows { get; }

        /// <summary>Sum of the weights of each row.</summary>
        internal float[] Totals { get; }

        internal BlockVisits Visits { get; }

        internal BlockChooser? Chooser { get; }

        /// <summary>Scores, later weights, of a row with the block at a place of its list.</summary>
        internal float* Slot(int row, int slot, int columns) => _scores + (row * _stripLength) + ((nint)slot * columns);

        /// <summary>Takes over the queries of a tile, times the scale.</summary>
        internal void Begin(in GroupTile tile, HostArray<float> q, float scale)
        {
            for (int row = 0; row < tile.Rows; row++)
            {
                RowMath.Scale(q.Row(tile.Batch, tile.Head(row), tile.QueryRow(row)), scale, Queries.Span(row));
                Queries.ClearPadding(row);
            }
        }
    }

    private AttentionProblem Problem => problem;

    private SparseSparseParameters Parameters => parameters;
}
