using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>The weights of alpha-entmax attention; the count is the support of a row.</summary>
internal sealed class EntmaxWeights : RowFunctionWeights
{
    private readonly ScoreRows _scores;
    private readonly double[] _alpha;

    /// <summary>Makes the weights.</summary>
    /// <param name="scores">The scores.</param>
    /// <param name="alpha">In (1, 2], one for each query head.</param>
    internal EntmaxWeights(ScoreRows scores, double[] alpha)
        : base(scores, () => new EntmaxRow(scores.Problem, alpha), countsSupport: true)
    {
        _scores = scores;
        _alpha = alpha;
    }

    /// <summary>
    /// Visible keys of a row whose place inside or outside the support hangs on less than a relative error of their scores, or of the
    /// unit interval below the largest z, where the threshold lies: for alpha near 1 the scores are a small part of that.
    /// </summary>
    internal int KeysNearThreshold(int batch, int head, int row, double relativeError)
    {
        RowPlace place = new(batch, head, row, Problem.Visible(row));
        if (place.Visible.Count == 0)
        {
            return 0;
        }

        double power = _alpha[head] - 1;
        double[] z = new double[place.Visible.Count];
        double[] weights = new double[z.Length];
        _scores.Read(place, z);
        EntmaxRow function = new(Problem, _alpha);
        function.Forward(place, z, weights);
        double tau = function.Tau[place.Index(Problem)];
        double margin = relativeError * Math.Max(1, z.Max(Math.Abs));
        // Near alpha 1 a weight relu(z - tau)^(1 / power) is 0 in float64 well above the threshold: below 5.8e-4 for alpha 1.01.
        double underflow = Math.Pow(2, -1074 * power);
        return z.Count(score => Math.Abs((power * score) - tau) <= (power * margin) + relativeError + underflow);
    }
}
