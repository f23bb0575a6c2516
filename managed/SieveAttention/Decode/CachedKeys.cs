namespace SieveAttention;

/// <summary>
/// Keys and values of growing sequences in the memory of a CUDA device, as a decode step reads them; for callers with a cache of their own.
/// B = decoded sequences, Hkv = heads of keys and values, D = head_dim, Dv = channels of values. Lengths and page table are read when the
/// kernels run, so that a captured graph replays with grown caches. Does not own the tensors.
/// </summary>
/// <remarks>
/// Contiguous: row j of entry b is its key j. Paged: key j of entry b is row j modulo page size of page
/// <see cref="PageTable"/>[b, j / page size]; entries behind the valid keys are not read.
/// </remarks>
public sealed record CachedKeys
{
    /// <summary>Keys, Float16 or BFloat16: [B, Hkv, capacity, D], or [pages, Hkv, page size, D].</summary>
    public required AttentionTensor Key { get; init; }

    /// <summary>Values of the same type: [B, Hkv, capacity, Dv], or [pages, Hkv, page size, Dv].</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>Number of valid keys of each entry, Int32 [1, 1, 1, B], dense; all rows are valid when absent.</summary>
    public AttentionTensor? Lengths { get; init; }

    /// <summary>Pages of each entry in the order of its keys, Int32 [1, 1, B, pages of an entry], dense; contiguous when absent.</summary>
    public AttentionTensor? PageTable { get; init; }

    /// <summary>Disposes views that were made for one step.</summary>
    internal void DisposeViews()
    {
        Key.Dispose();
        Value.Dispose();
        Lengths?.Dispose();
        PageTable?.Dispose();
    }

    /// <summary>Checks everything against the queries and gives the sizes of the step.</summary>
    internal AttentionProblem Check(
        AttentionDevice device, AttentionMask mask, AttentionTensor query, string queryName, string keyName = nameof(Key))
    {
        TensorGuard.Input(query, queryName, device);
        TensorGuard.Input(Key, keyName, device);
        TensorGuard.Input(Value, nameof(Value), device);
        TensorShape q = query.Shape;
        TensorShape k = Key.Shape;
        int entries = PageTable is null ? q.Batch : k.Batch;
        string axes = PageTable is null ? "[batch, key heads, keys, head_dim]" : "[pages, key heads, page size, head_dim]";
        TensorGuard.Shape(Key, keyName, new TensorShape(entries, k.Heads, k.Rows, q.Channels), axes);
        TensorGuard.Shape(
            Value,
            nameof(Value),
            k with { Channels = Value.Shape.Channels },
            PageTable is null ? "[batch, key heads, keys, value_dim]" : "[pages, key heads, page size, value_dim]");
        if (q.Heads % k.Heads != 0)
        {
            throw Guard.Tensor(
                queryName,
                $"{queryName} has {q.Heads} heads and the cache has {k.Heads}; the heads of {queryName} have to be a multiple.");
        }

        if (mask.QueryOffset is { } offset)
        {
            throw Guard.OutOfRange(nameof(mask.QueryOffset), offset, "absent, because decode takes positions from the cache");
        }

        long keys = k.Rows;
        if (PageTable is { } table)
        {
            TensorGuard.Integers(
                table, nameof(PageTable), device, new TensorShape(1, 1, q.Batch, table.Shape.Channels), "[1, 1, batch, pages of an entry]");
            keys = Math.Min(keys * table.Shape.Channels, int.MaxValue);
        }

        AttentionProblem problem = new(
            q.Batch, q.Heads, k.Heads, q.Rows, (int)keys, q.Channels, Value.Shape.Channels, mask.Causal, keys - q.Rows, mask.Window ?? 0);
        if (Lengths is { } lengths)
        {
            ProblemBuilder.CheckKeyLengths(device, problem, lengths, nameof(Lengths));
        }

        ProblemBuilder.CheckSameType(query, queryName, (Key, keyName), (Value, nameof(Value)));
        return problem;
    }
}
