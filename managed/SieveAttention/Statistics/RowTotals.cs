namespace SieveAttention;

/// <summary>Sums over rows of weights, from which <see cref="AttentionStatistics"/> are made.</summary>
internal sealed class RowTotals(int counts)
{
    internal long Rows { get; private set; }

    internal long VisiblePairs { get; private set; }

    internal long ZeroPairs { get; private set; }

    internal long EmptyRows { get; private set; }

    internal int LargestSupport { get; private set; }

    internal double Smallest { get; private set; }

    internal double Largest { get; private set; }

    internal RowMean FirstKeyShare { get; } = new();

    internal RowMean UniformFirstKeyShare { get; } = new();

    internal RowMean Entropy { get; } = new();

    internal RowMean DroppedMass { get; } = new();

    internal RowMean ErrorBound { get; } = new();

    internal long[] CountSums { get; } = new long[counts];

    internal int[] LargestCounts { get; } = new int[counts];

    /// <summary>Adds a row.</summary>
    /// <param name="weights">Where it comes from.</param>
    /// <param name="batch">Entry of the batch.</param>
    /// <param name="head">Output head.</param>
    /// <param name="query">Query row.</param>
    /// <param name="row">A buffer of one element a key.</param>
    internal void Add(AttentionWeights weights, int batch, int head, int query, double[] row)
    {
        Span<int> rowCounts = stackalloc int[counts];
        (int first, int end) = weights.Row(batch, head, query, row, rowCounts);
        AddWeights(row.AsSpan(first, end - first), first == 0);
        for (int count = 0; count < rowCounts.Length; count++)
        {
            CountSums[count] += rowCounts[count];
            LargestCounts[count] = Math.Max(LargestCounts[count], rowCounts[count]);
        }

        if (weights.Loss(batch, head, query) is { } loss)
        {
            DroppedMass.Add(loss.DroppedMass);
            ErrorBound.Add(loss.ErrorBound);
        }
    }

    /// <summary>Adds the totals of further rows.</summary>
    internal void Merge(RowTotals other)
    {
        Rows += other.Rows;
        VisiblePairs += other.VisiblePairs;
        ZeroPairs += other.ZeroPairs;
        EmptyRows += other.EmptyRows;
        LargestSupport = Math.Max(LargestSupport, other.LargestSupport);
        Smallest = Math.Min(Smallest, other.Smallest);
        Largest = Math.Max(Largest, other.Largest);
        FirstKeyShare.Merge(other.FirstKeyShare);
        UniformFirstKeyShare.Merge(other.UniformFirstKeyShare);
        Entropy.Merge(other.Entropy);
        DroppedMass.Merge(other.DroppedMass);
        ErrorBound.Merge(other.ErrorBound);
        for (int count = 0; count < CountSums.Length; count++)
        {
            CountSums[count] += other.CountSums[count];
            LargestCounts[count] = Math.Max(LargestCounts[count], other.LargestCounts[count]);
        }
    }

    private void AddWeights(ReadOnlySpan<double> visible, bool seesFirstKey)
    {
        int support = 0;
        double sum = 0;
        double sumOfLogarithms = 0;
        foreach (double weight in visible)
        {
            if (weight == 0)
            {
                continue;
            }

            double magnitude = Math.Abs(weight);
            support++;
            sum += magnitude;
            sumOfLogarithms += magnitude * Math.Log(magnitude);
            Smallest = Math.Min(Smallest, weight);
            Largest = Math.Max(Largest, weight);
        }

        Rows++;
        VisiblePairs += visible.Length;
        ZeroPairs += visible.Length - support;
        LargestSupport = Math.Max(LargestSupport, support);
        if (support == 0)
        {
            EmptyRows++;
            return;
        }

        // - sum (m / s) ln (m / s) = ln s - (sum m ln m) / s; rounding may leave a little less than 0.
        Entropy.Add(Math.Max(0, Math.Log(sum) - (sumOfLogarithms / sum)));
        if (seesFirstKey)
        {
            FirstKeyShare.Add(Math.Abs(visible[0]) / sum);
            UniformFirstKeyShare.Add(1.0 / visible.Length);
        }
    }
}

/// <summary>The mean and the largest of a quantity that not every row has.</summary>
internal sealed class RowMean
{
    private double _sum;
    private double _largest;
    private long _count;

    /// <summary>The mean; null where no row had the quantity.</summary>
    internal double? Mean => _count == 0 ? null : _sum / _count;

    /// <summary>The largest, at least 0; null where no row had the quantity.</summary>
    internal double? Largest => _count == 0 ? null : _largest;

    internal void Add(double value)
    {
        _sum += value;
        _largest = Math.Max(_largest, value);
        _count++;
    }

    internal void Merge(RowMean other)
    {
        _sum += other._sum;
        _largest = Math.Max(_largest, other._largest);
        _count += other._count;
    }
}
