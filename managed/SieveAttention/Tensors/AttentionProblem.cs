namespace SieveAttention;

/// <summary>Key rows first &lt;= j &lt; end.</summary>
internal readonly record struct KeyRange(int First, int End)
{
    internal int Count => End - First;
}

/// <summary>
/// Dimensions and masks of one call after validation, the same for every operator and device. Key j is visible to query row i
/// iff 0 &lt;= j &lt; <paramref name="Keys"/>, and j &lt;= i + offset where causal, and j &gt; i + offset - window where window &gt; 0.
/// </summary>
/// <param name="Batch">Entries of the batch.</param>
/// <param name="QueryHeads">Heads of the queries, a multiple of <paramref name="KeyHeads"/>.</param>
/// <param name="KeyHeads">Heads of keys and values.</param>
/// <param name="Queries">Query rows of a head.</param>
/// <param name="Keys">Key and value rows of a head.</param>
/// <param name="HeadDim">Channels of queries and keys.</param>
/// <param name="ValueDim">Channels of values and outputs.</param>
/// <param name="Causal">Whether a row sees no key after its position.</param>
/// <param name="QueryOffset">Position of query row 0 among the keys; may be negative.</param>
/// <param name="Window">Keys up to and including its own position that a row sees; 0 = no limit.</param>
internal readonly record struct AttentionProblem(
    int Batch, int QueryHeads, int KeyHeads, int Queries, int Keys, int HeadDim, int ValueDim, bool Causal, long QueryOffset, long Window)
{
    internal TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    internal TensorShape KeyShape => new(Batch, KeyHeads, Keys, HeadDim);

    internal TensorShape ValueShape => new(Batch, KeyHeads, Keys, ValueDim);

    internal TensorShape OutputShape => new(Batch, QueryHeads, Queries, ValueDim);

    /// <summary>Shape of tensors with one value a query row: survivors, gate.</summary>
    internal TensorShape RowShape => new(Batch, QueryHeads, Queries, 1);

    /// <summary>Shape of a bitmap of tiles of 64 rows x 64 keys, 16 of a row of tiles in a word.</summary>
    internal TensorShape TileShape => new(Batch, QueryHeads, (Queries + 63) / 64, (Keys + 1023) / 1024);

    /// <summary>The key and value head of a query head.</summary>
    internal int KeyHead(int queryHead) => queryHead / (QueryHeads / KeyHeads);

    /// <summary>The visible keys of a query row; they are always contiguous. May be empty.</summary>
    internal KeyRange Visible(int queryRow)
    {
        long position = queryRow + QueryOffset;
        long end = Causal ? Math.Clamp(position + 1, 0, Keys) : Keys;
        long first = Window > 0 ? Math.Clamp(position - Window + 1, 0, end) : 0;
        return new KeyRange((int)first, (int)end);
    }
}
