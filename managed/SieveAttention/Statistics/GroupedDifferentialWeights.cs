using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>
/// The weights of grouped differential attention: the softmax of a signal head minus sigmoid(logit) times that of its noise head. A whole
/// group uses one key head, so that both multiply the same values.
/// </summary>
internal sealed class GroupedDifferentialWeights(ScoreRows scores, GroupedDifferentialParameters parameters, HostArray<double> lambdaLogit)
    : AttentionWeights(scores.Problem, lambdaLogit.Shape.Heads)
{
    private protected override KeyRange RowCore(int batch, int head, int row, Span<double> weights, Span<int> counts)
    {
        RowPlace signal = new(batch, parameters.SignalHead(head), row, Problem.Visible(row));
        if (signal.Visible.Count == 0)
        {
            return signal.Visible;
        }

        double lambda = 1 / (1 + Math.Exp(-lambdaLogit.Row(batch, head, row)[0]));
        double[] rowScores = new double[signal.Visible.Count];
        double[] noise = new double[signal.Visible.Count];
        Span<double> visible = weights.Slice(signal.Visible.First, signal.Visible.Count);
        scores.Read(signal, rowScores);
        SoftmaxRow.Weigh(rowScores, visible);
        scores.Read(signal with { Head = parameters.NoiseHead(head) }, rowScores);
        SoftmaxRow.Weigh(rowScores, noise);
        for (int n = 0; n < visible.Length; n++)
        {
            visible[n] -= lambda * noise[n];
        }

        return signal.Visible;
    }
}
