using System.Runtime.ExceptionServices;

namespace SieveAttention;

/// <summary>
/// How an operator spreads its weights over the keys: exact zeros, support of rows, share of the first key, entropy, and for
/// operators that select keys what the selection drops. Shares and entropy are those of the magnitudes |w_ij| / sum_j |w_ij|, because
/// differential weights may be negative; means run over the rows where they are defined. Immutable.
/// </summary>
/// <remarks>
/// Computed in float64 from <see cref="AttentionWeights"/>, in time proportional to the visible pairs times head_dim and on all cores;
/// the result does not depend on the number of threads.
/// </remarks>
public sealed class AttentionStatistics
{
    /// <summary>Rows that one task sums up; a constant, so that sums have the same order on every machine.</summary>
    private const int RowsPerTask = 64;

    private AttentionStatistics(RowTotals totals, IReadOnlyList<string> countNames)
    {
        Rows = totals.Rows;
        VisiblePairs = totals.VisiblePairs;
        ZeroPairs = totals.ZeroPairs;
        EmptyRows = totals.EmptyRows;
        MeanSupport = (double)(totals.VisiblePairs - totals.ZeroPairs) / totals.Rows;
        LargestSupport = totals.LargestSupport;
        FirstKeyShare = totals.FirstKeyShare.Mean;
        UniformFirstKeyShare = totals.UniformFirstKeyShare.Mean;
        Entropy = totals.Entropy.Mean;
        Smallest = totals.Smallest;
        Largest = totals.Largest;
        DroppedMass = totals.DroppedMass.Mean;
        LargestDroppedMass = totals.DroppedMass.Largest;
        SelectionErrorBound = totals.ErrorBound.Mean;
        LargestSelectionErrorBound = totals.ErrorBound.Largest;
        Counts =
        [
            .. countNames.Select((name, index) => new AttentionCount(
                name, (double)totals.CountSums[index] / totals.Rows, totals.LargestCounts[index])),
        ];
    }

    /// <summary>Query rows of all heads.</summary>
    public long Rows { get; }

    /// <summary>Pairs of a query row and a key that it sees.</summary>
    public long VisiblePairs { get; }

    /// <summary>Visible pairs whose weight is exactly 0.</summary>
    public long ZeroPairs { get; }

    /// <summary>Rows without a weight other than 0, also those that see no key.</summary>
    public long EmptyRows { get; }

    /// <summary>Part of the visible pairs whose weight is exactly 0; 1 where no pair is visible.</summary>
    public double ZeroFraction => VisiblePairs == 0 ? 1 : (double)ZeroPairs / VisiblePairs;

    /// <summary>Part of the rows without a weight other than 0.</summary>
    public double EmptyRowFraction => (double)EmptyRows / Rows;

    /// <summary>Keys with a weight other than 0, mean over all rows.</summary>
    public double MeanSupport { get; }

    /// <summary>Keys with a weight other than 0, largest of a row.</summary>
    public int LargestSupport { get; }

    /// <summary>
    /// Share of key 0, the usual attention sink, mean over the rows that see it and are not empty; null where there is none.
    /// </summary>
    public double? FirstKeyShare { get; }

    /// <summary>What <see cref="FirstKeyShare"/> would be with equal weights: the mean of 1 / visible keys over the same rows.</summary>
    public double? UniformFirstKeyShare { get; }

    /// <summary>Entropy of the shares of a row in nats, mean over the rows that are not empty; null where there is none.</summary>
    public double? Entropy { get; }

    /// <summary>Smallest weight, at most 0.</summary>
    public double Smallest { get; }

    /// <summary>Largest weight, at least 0.</summary>
    public double Largest { get; }

    /// <summary>The operator's own counts, such as the survivors of each view.</summary>
    public IReadOnlyList<AttentionCount> Counts { get; }

    /// <summary>
    /// Mass that full attention gives to the keys that were not selected, mean over all rows; null for operators without selection.
    /// </summary>
    public double? DroppedMass { get; }

    /// <summary>The largest <see cref="DroppedMass"/> of a row.</summary>
    public double? LargestDroppedMass { get; }

    /// <summary>
    /// Upper bound of the distance between full and sparse output rows before the gate, mean over all rows: dropped mass times the sum of
    /// the largest norm of a dropped value and the norm of the sparse output (arXiv 2511.20102, Theorem 1); null without selection.
    /// </summary>
    public double? SelectionErrorBound { get; }

    /// <summary>The largest <see cref="SelectionErrorBound"/> of a row.</summary>
    public double? LargestSelectionErrorBound { get; }

    /// <summary>Statistics of all heads.</summary>
    /// <param name="weights">The weights.</param>
    /// <returns>The statistics.</returns>
    /// <exception cref="ArgumentException">A row has no weights: a support-basis row without a positive sum.</exception>
    public static AttentionStatistics Of(AttentionWeights weights)
    {
        ArgumentNullException.ThrowIfNull(weights);
        return Compute(weights, 0, weights.Batch * weights.Heads);
    }

    /// <summary>Statistics of one head.</summary>
    /// <param name="weights">The weights.</param>
    /// <param name="batch">Entry of the batch, from 0.</param>
    /// <param name="head">Output head, from 0.</param>
    /// <returns>The statistics.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such head.</exception>
    public static AttentionStatistics Of(AttentionWeights weights, int batch, int head)
    {
        ArgumentNullException.ThrowIfNull(weights);
        Guard.Between(0, weights.Batch - 1, batch, nameof(batch));
        Guard.Between(0, weights.Heads - 1, head, nameof(head));
        return Compute(weights, (batch * weights.Heads) + head, 1);
    }

    private static AttentionStatistics Compute(AttentionWeights weights, int firstHead, int heads)
    {
        int tasksPerHead = ((weights.Queries - 1) / RowsPerTask) + 1;
        RowTotals[] parts = new RowTotals[heads * tasksPerHead];
        try
        {
            Parallel.For(0, parts.Length, () => new double[weights.Keys], (task, _, row) =>
            {
                int head = firstHead + (task / tasksPerHead);
                int first = task % tasksPerHead * RowsPerTask;
                RowTotals totals = new(weights.CountNames.Count);
                for (int query = first; query < Math.Min(first + RowsPerTask, weights.Queries); query++)
                {
                    totals.Add(weights, head / weights.Heads, head % weights.Heads, query, row);
                }

                parts[task] = totals;
                return row;
            }, _ => { });
        }
        catch (AggregateException error)
        {
            // A row that has no weights says so in its own words.
            ExceptionDispatchInfo.Throw(error.InnerExceptions[0]);
        }

        RowTotals all = new(weights.CountNames.Count);
        foreach (RowTotals part in parts)
        {
            all.Merge(part);
        }

        return new AttentionStatistics(all, weights.CountNames);
    }
}
