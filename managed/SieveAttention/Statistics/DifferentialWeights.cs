using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>The weights of differential attention: the softmax of the first view minus lambda times that of the second.</summary>
internal sealed class DifferentialWeights(ScoreRows first, ScoreRows second, double[] lambda)
    : AttentionWeights(first.Problem, first.Problem.QueryHeads)
{
    private protected override KeyRange RowCore(int batch, int head, int row, Span<double> weights, Span<int> counts)
    {
        RowPlace place = new(batch, head, row, Problem.Visible(row));
        if (place.Visible.Count == 0)
        {
            return place.Visible;
        }

        double[] scores = new double[place.Visible.Count];
        double[] noise = new double[place.Visible.Count];
        Span<double> visible = weights.Slice(place.Visible.First, place.Visible.Count);
        first.Read(place, scores);
        SoftmaxRow.Weigh(scores, visible);
        second.Read(place, scores);
        SoftmaxRow.Weigh(scores, noise);
        for (int n = 0; n < visible.Length; n++)
        {
            visible[n] -= lambda[head] * noise[n];
        }

        return place.Visible;
    }
}
