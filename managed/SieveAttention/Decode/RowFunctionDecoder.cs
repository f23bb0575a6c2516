using System.Numerics;
using SieveAttention.Reference;

namespace SieveAttention.Decoding;

/// <summary>
/// Attention of new rows over a cache with any row function: the scores of all visible keys, the weights that the reference's function
/// makes of them, and the sum of the values that have a weight.
/// </summary>
/// <param name="plan">The step.</param>
/// <param name="scores">Scores.</param>
/// <param name="makeFunction">Makes the row function of a problem; one for each key head, because it holds scratch.</param>
internal sealed class RowFunctionDecoder<T>(DecodePlan plan, DecodeScores<T> scores, Func<AttentionProblem, RowFunction> makeFunction)
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Output before the epilogue.</summary>
    internal HostArray<T> X { get; } = new(plan.OutputShape);

    /// <summary>Computes the rows of one key head of one entry.</summary>
    internal void Run(int entry, int keyHead)
    {
        KeyRange all = plan.Visible(entry);
        DecodeRows<T> rows = new(plan, entry, keyHead);
        AttentionProblem problem = plan.Problems[entry];
        double[][] weights = new double[rows.Count][];
        for (int row = 0; row < rows.Count; row++)
        {
            weights[row] = new double[problem.Visible(rows.Query(row)).Count];
        }

        Score(entry, keyHead, all, rows, weights);

        // The tensors of affine weights belong to the whole batch.
        RowFunction function = makeFunction(problem with { Batch = plan.QueryShape.Batch });
        double[] s = new double[all.Count];
        for (int row = 0; row < rows.Count; row++)
        {
            KeyRange visible = problem.Visible(rows.Query(row));
            if (visible.Count > 0)
            {
                weights[row].CopyTo(s, 0);
                function.Forward(new RowPlace(entry, rows.Head(row), rows.Query(row), visible), s.AsSpan(0, visible.Count), weights[row]);
            }
        }

        Sum(entry, keyHead, all, rows, weights);
    }

    private void Score(int entry, int keyHead, KeyRange all, DecodeRows<T> rows, double[][] target)
    {
        int channels = plan.QueryShape.Channels;
        T[] scratch = new T[KeyValueCache.LongestRun * channels];
        T[] piece = new T[KeyValueCache.LongestRun];
        for (int first = all.First; first < all.End;)
        {
            int count = plan.Cache.Run(first, all.End);
            ReadOnlySpan<T> k = scores.Keys(entry, keyHead, first, count, scratch.AsSpan());
            for (int row = 0; row < rows.Count; row++)
            {
                (KeyRange seen, int start) = Seen(entry, rows, row, first, count);
                Span<T> s = piece.AsSpan(0, seen.Count);
                scores.Compute(entry, rows, row, seen.First, k[((seen.First - first) * channels)..], s);
                for (int n = 0; n < s.Length; n++)
                {
                    target[row][start + n] = double.CreateTruncating(s[n]);
                }
            }

            first += count;
        }
    }

    private void Sum(int entry, int keyHead, KeyRange all, DecodeRows<T> rows, double[][] weights)
    {
        int channels = plan.OutputShape.Channels;
        T[] scratch = new T[KeyValueCache.LongestRun * channels];
        for (int first = all.First; first < all.End;)
        {
            int count = plan.Cache.Run(first, all.End);
            ReadOnlySpan<T> v = plan.Cache.Values(plan.Sequences[entry], keyHead, first, count, scratch.AsSpan());
            for (int row = 0; row < rows.Count; row++)
            {
                (KeyRange seen, int start) = Seen(entry, rows, row, first, count);
                for (int n = 0; n < seen.Count; n++)
                {
                    T weight = T.CreateTruncating(weights[row][start + n]);
                    DecodeRows<T>.AddScaled(rows.Of(X, row), weight, v.Slice((seen.First + n - first) * channels, channels));
                }
            }

            first += count;
        }
    }

    /// <summary>The keys of a run that a row sees, and where they begin among all that it sees.</summary>
    private (KeyRange Keys, int Start) Seen(int entry, DecodeRows<T> rows, int row, int first, int count)
    {
        KeyRange visible = plan.Problems[entry].Visible(rows.Query(row));
        int from = Math.Clamp(visible.First, first, first + count);
        int end = Math.Clamp(visible.End, from, first + count);
        return (new KeyRange(from, end), from - visible.First);
    }
}
