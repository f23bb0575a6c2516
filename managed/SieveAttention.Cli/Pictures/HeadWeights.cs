namespace SieveAttention.Cli.Pictures;

/// <summary>The weights of one head in the form of a picture.</summary>
internal sealed class HeadWeights(AttentionWeights weights, int batch, int head) : IWeightSource
{
    /// <inheritdoc/>
    public int Queries => weights.Queries;

    /// <inheritdoc/>
    public int Keys => weights.Keys;

    /// <inheritdoc/>
    public long QueryOffset => weights.QueryOffset;

    /// <inheritdoc/>
    public IReadOnlyList<string> CountNames => weights.CountNames;

    /// <inheritdoc/>
    public (int First, int End) Row(int query, Span<double> row, Span<int> counts) => weights.Row(batch, head, query, row, counts);
}
