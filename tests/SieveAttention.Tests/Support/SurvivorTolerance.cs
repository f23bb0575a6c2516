using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>
/// The rule for discrete decisions: a count may differ from float64 only by keys whose score is closer to the threshold than a
/// float32 score of 16-bit operands is exact (2^-20 sqrt(head_dim)), and such keys must be rare.
/// </summary>
internal static class SurvivorTolerance
{
    private const double AllowedShare = 1e-4;

    public static void AssertWithin(ThresholdCase test, AttentionTensor query, AttentionTensor key, int[] actual, int[] expected)
    {
        Assert.That(actual, Has.Length.EqualTo(expected.Length));
        Assert.That(Violation(test, query, key, actual, expected), Is.Null, test.Name);
    }

    /// <summary>What breaks the rule; null where nothing does.</summary>
    public static string? Violation(ThresholdCase test, AttentionTensor query, AttentionTensor key, int[] actual, int[] expected)
    {
        int differing = 0;
        for (int row = 0; row < actual.Length; row++)
        {
            if (actual[row] == expected[row])
            {
                continue;
            }

            int undecided = Undecided(test, query, key, row);
            if (Math.Abs(actual[row] - expected[row]) > undecided)
            {
                return $"row {row} has {actual[row]} survivors, float64 says {expected[row]}, and {undecided} scores are too close to tell";
            }

            differing += Math.Abs(actual[row] - expected[row]);
        }

        long pairs = 0;
        for (int i = 0; i < test.Queries; i++)
        {
            pairs += (long)test.Batch * test.QueryHeads * test.Problem.Visible(i).Count;
        }

        return differing <= Math.Max(1, AllowedShare * pairs) ? null : $"{differing} of {pairs} decisions differ";
    }

    private static int Undecided(ThresholdCase test, AttentionTensor query, AttentionTensor key, int row)
    {
        int i = row % test.Queries;
        int h = row / test.Queries % test.QueryHeads;
        int b = row / test.Queries / test.QueryHeads;
        HostArray<double> q = HostArray<double>.Read(query.Slice(0, b, 1).Slice(1, h, 1).Slice(2, i, 1));
        HostArray<double> k = HostArray<double>.Read(key.Slice(0, b, 1).Slice(1, test.Problem.KeyHead(h), 1));
        KeyRange visible = test.Problem.Visible(i);
        double tau = Scores.Threshold(test.Options, visible.Count, test.HeadDim);
        double margin = Math.ScaleB(1, -20) * Math.Sqrt(test.HeadDim);
        int undecided = 0;
        for (int j = visible.First; j < visible.End; j++)
        {
            undecided += Math.Abs(Scores.Cosine(q.Data, k.Row(0, 0, j)) - tau) <= margin ? 1 : 0;
        }

        return undecided;
    }
}
