namespace SieveAttention;

/// <summary>
/// The weights w of an attention operator, one query row at a time in float64: the numbers that multiply the values before norm,
/// output scale and gate, <c>x_i = sum_j w_ij value_j</c>. Operators never hold them; this class computes a row when it is asked for,
/// for statistics and pictures, and needs memory for the operands only.
/// </summary>
/// <remarks>
/// Made from the options and tensors of an operator by <c>Of</c>; the tensors are read once, in host memory, of any floating-point
/// type. Immutable; may be used from several threads.
/// </remarks>
public abstract partial class AttentionWeights
{
    private protected AttentionWeights(in AttentionProblem problem, int heads, params IReadOnlyList<string> countNames)
    {
        Problem = problem;
        Heads = heads;
        CountNames = countNames;
    }

    /// <summary>Entries of the batch.</summary>
    public int Batch => Problem.Batch;

    /// <summary>Heads of the output; not those of the queries where several query heads make one output head.</summary>
    public int Heads { get; }

    /// <summary>Query rows of a head.</summary>
    public int Queries => Problem.Queries;

    /// <summary>Key rows of a head.</summary>
    public int Keys => Problem.Keys;

    /// <summary>Position of query row 0 among the keys; may be negative.</summary>
    public long QueryOffset => Problem.QueryOffset;

    /// <summary>Names of the counts that the operator has for each row, such as the survivors of a view; may be empty.</summary>
    public IReadOnlyList<string> CountNames { get; }

    private protected AttentionProblem Problem { get; }

    /// <summary>Computes the weights of a row.</summary>
    /// <param name="batch">Entry of the batch, from 0.</param>
    /// <param name="head">Output head, from 0.</param>
    /// <param name="row">Query row, from 0.</param>
    /// <param name="weights">Receives one weight a key, 0 where the key is not visible; <see cref="Keys"/> long.</param>
    /// <param name="counts">Receives the counts in the order of <see cref="CountNames"/>, as many; or empty.</param>
    /// <returns>The first visible key and the end of the visible keys, which are contiguous; equal where there is none.</returns>
    /// <exception cref="ArgumentOutOfRangeException">An index is outside its limits.</exception>
    /// <exception cref="ArgumentException">A span has another length.</exception>
    public (int First, int End) Row(int batch, int head, int row, Span<double> weights, Span<int> counts = default)
    {
        Guard.Between(0, Batch - 1, batch, nameof(batch));
        Guard.Between(0, Heads - 1, head, nameof(head));
        Guard.Between(0, Queries - 1, row, nameof(row));
        if (weights.Length != Keys)
        {
            throw new ArgumentException($"weights has {weights.Length} elements; allowed: {Keys}, one a key.", nameof(weights));
        }

        if (!counts.IsEmpty && counts.Length != CountNames.Count)
        {
            throw new ArgumentException($"counts has {counts.Length} elements; allowed: {CountNames.Count} or none.", nameof(counts));
        }

        weights.Clear();
        counts.Clear();
        KeyRange visible = RowCore(batch, head, row, weights, counts);
        return (visible.First, visible.End);
    }

    /// <summary>Writes the weights of the visible keys of a row; the spans hold zeros.</summary>
    private protected abstract KeyRange RowCore(int batch, int head, int row, Span<double> weights, Span<int> counts);

    /// <summary>What a row lost against the attention over all keys; null for operators that select none.</summary>
    internal virtual SelectionLoss? Loss(int batch, int head, int row) => null;
}

/// <summary>What a row of sparse attention lost by its selection of keys.</summary>
/// <param name="DroppedMass">Weight that full attention gives to keys that were not selected, 0 to 1.</param>
/// <param name="ErrorBound">Upper bound of the distance between the full and the sparse output row, before the gate.</param>
internal readonly record struct SelectionLoss(double DroppedMass, double ErrorBound);
