using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Decoding;

/// <summary>
/// One decode step after validation. Each entry of the batch is a problem of its own with one batch entry, because sequences have
/// different lengths: its T new rows are the last T positions of its keys.
/// </summary>
internal sealed class DecodePlan
{
    private readonly int[] _sequences;

    private DecodePlan(KeyValueCache cache, int[] sequences, AttentionProblem[] problems, TensorShape query)
    {
        Cache = cache;
        _sequences = sequences;
        Problems = problems;
        QueryShape = query;
        Group = query.Heads / cache.Layout.KeyHeads;
        for (int entry = 0; entry < problems.Length; entry++)
        {
            Pieces = Math.Max(Pieces, (Visible(entry).Count + PieceLength - 1) / PieceLength);
        }
    }

    /// <summary>Keys of a piece: some tenths of a millisecond of work, much more than handing it to a core costs.</summary>
    internal const int PieceLength = 2048;

    internal KeyValueCache Cache { get; }

    /// <summary>Pieces of the longest entry.</summary>
    internal int Pieces { get; }

    /// <summary>The sequence of each entry.</summary>
    internal ReadOnlySpan<int> Sequences => _sequences;

    /// <summary>The problem of each entry.</summary>
    internal AttentionProblem[] Problems { get; }

    /// <summary>[entries, query heads, new rows, head_dim].</summary>
    internal TensorShape QueryShape { get; }

    /// <summary>Query heads of a key head.</summary>
    internal int Group { get; }

    internal TensorShape RowShape => QueryShape with { Channels = 1 };

    internal TensorShape OutputShape => QueryShape with { Channels = Cache.Layout.ValueDim };

    /// <summary>Sizes of the whole batch, for the checks of tensors with one row for each new one.</summary>
    internal AttentionProblem Sizes => Problems[0] with { Batch = QueryShape.Batch };

    /// <summary>Checks what every operator checks.</summary>
    internal static DecodePlan Build(
        AttentionDevice device,
        KeyValueCache cache,
        int views,
        AttentionMask mask,
        AttentionTensor query,
        string queryName,
        IReadOnlyList<int>? sequences)
    {
        DeviceGuard.OnlyOn(device, "Decode", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        ArgumentNullException.ThrowIfNull(cache);
        TensorGuard.Input(query, queryName, device);
        KeyValueCacheLayout layout = cache.Layout;
        if (layout.Views != views)
        {
            throw new ArgumentException(
                $"The cache has {layout.Views} key view(s); this operator needs {views}.", nameof(cache));
        }

        if (mask.QueryOffset is { } offset)
        {
            throw Guard.OutOfRange(nameof(mask.QueryOffset), offset, "absent, because decode takes positions from the cache");
        }

        TensorShape shape = query.Shape;
        int[] chosen = sequences?.ToArray() ?? Enumerable.Range(0, layout.Sequences).ToArray();
        foreach (int sequence in chosen)
        {
            Guard.Between(0, layout.Sequences - 1, sequence, "Sequences");
        }

        TensorShape expected = shape with { Batch = chosen.Length, Channels = layout.HeadDim };
        TensorGuard.Shape(query, queryName, expected, "[sequences, query heads, rows, head_dim]");
        if (shape.Heads % layout.KeyHeads != 0)
        {
            throw Guard.Tensor(
                queryName,
                $"{queryName} has {shape.Heads} heads and the cache has {layout.KeyHeads}; " +
                $"the heads of {queryName} have to be a multiple.");
        }

        AttentionProblem[] problems = Array.ConvertAll(chosen, sequence => Problem(cache, sequence, mask, shape, queryName));
        return new DecodePlan(cache, chosen, problems, shape);
    }

    /// <summary>
    /// Runs work on every key head of every entry: one after the other on the Reference device, on all cores on the Cpu device.
    /// </summary>
    internal void ForEachHead(AttentionDevice device, Action<int, int> work)
    {
        int heads = Cache.Layout.KeyHeads;
        Workers.Run(Execution(device), (long)Problems.Length * heads, task => work((int)(task / heads), (int)(task % heads)));
    }

    /// <summary>Runs work on every row of every key head of every entry.</summary>
    internal void ForEachRow(AttentionDevice device, Action<int, int, int> work)
    {
        int heads = Cache.Layout.KeyHeads;
        int rows = Group * QueryShape.Rows;
        Workers.Run(Execution(device), (long)Problems.Length * heads * rows, task =>
        {
            (long head, long row) = Math.DivRem(task, rows);
            work((int)(head / heads), (int)(head % heads), (int)row);
        });
    }

    /// <summary>
    /// Runs work on every piece of at most <see cref="PieceLength"/> visible keys of every key head of every entry, so that few heads with
    /// a long cache keep all cores busy. Pieces do not depend on the number of cores, and neither does what is made of them.
    /// </summary>
    internal void ForEachPiece(AttentionDevice device, Action<int, int, DecodePiece> work)
    {
        int heads = Cache.Layout.KeyHeads;
        Workers.Run(Execution(device), (long)Problems.Length * heads * Pieces, task =>
        {
            (long head, long number) = Math.DivRem(task, Pieces);
            (int entry, int keyHead) = ((int)(head / heads), (int)(head % heads));
            KeyRange all = Visible(entry);
            int first = (int)Math.Min(all.First + (number * PieceLength), all.End);
            DecodePiece piece = new((int)number, new KeyRange(first, (int)Math.Min((long)first + PieceLength, all.End)));
            if (piece.Keys.Count > 0)
            {
                work(entry, keyHead, piece);
            }
        });
    }

    /// <summary>Keys that at least one row of an entry sees.</summary>
    internal KeyRange Visible(int entry)
    {
        AttentionProblem problem = Problems[entry];
        KeyRange range = new(problem.Visible(0).First, problem.Visible(problem.Queries - 1).End);
        return range.Count > 0 ? range : new KeyRange(0, 0);
    }

    private static CpuExecution Execution(AttentionDevice device) =>
        device.Kind == AttentionDeviceKind.Cpu ? CpuExecution.Default : CpuExecution.Default with { Threads = 1 };

    private static AttentionProblem Problem(KeyValueCache cache, int sequence, AttentionMask mask, TensorShape query, string queryName)
    {
        int length = cache.Length(sequence);
        if (mask.Causal && query.Rows > length)
        {
            throw Guard.Tensor(
                queryName,
                $"{queryName} has {query.Rows} rows and sequence {sequence} has {length} keys; " +
                "allowed: at most as many rows as keys. Append the keys of the new rows first.");
        }

        KeyValueCacheLayout layout = cache.Layout;
        return new AttentionProblem(
            1, query.Heads, layout.KeyHeads, query.Rows, length, layout.HeadDim, layout.ValueDim, mask.Causal,
            (long)length - query.Rows, mask.Window ?? 0);
    }
}

/// <summary>Some of the visible keys of an entry.</summary>
/// <param name="Number">Number among the pieces of the entry.</param>
/// <param name="Keys">The keys.</param>
internal readonly record struct DecodePiece(int Number, KeyRange Keys);
