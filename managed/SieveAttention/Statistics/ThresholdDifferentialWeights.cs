namespace SieveAttention;

/// <summary>The weights of threshold differential attention; counts are the survivors of each view.</summary>
internal sealed class ThresholdDifferentialWeights : AttentionWeights
{
    private readonly ThresholdDifferentialRows<double> _rows;

    internal ThresholdDifferentialWeights(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<double>[] queries, HostArray<double>[] keys)
        : base(problem, problem.QueryHeads, queries.Length == 1 ? ["view 1"] : ["view 1", "view 2"])
    {
        _rows = new ThresholdDifferentialRows<double>(problem, parameters, queries, keys);
    }

    /// <summary>Visible keys of a row whose score in a view is within a margin of the threshold.</summary>
    internal int KeysNearThreshold(int view, int batch, int head, int row, double margin) =>
        _rows.KeysNearThreshold(view, batch, head, row, margin);

    private protected override KeyRange RowCore(int batch, int head, int row, Span<double> weights, Span<int> counts) =>
        _rows.Row(batch, head, row, weights, counts);
}
