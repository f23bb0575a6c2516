using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>The weights of alpha-entmax attention; the count is the support of a row.</summary>
internal sealed class EntmaxWeights : RowFunctionWeights
{
    private const double Rounding = 3.0 / (1 << 25);

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
    /// Visible keys of a row whose place inside or outside the support hangs on less than a relative error of their scores, or on the
    /// rounding of z - max z and of the threshold to float32: both lie between -1 and 0 there, each is off by at most 2^-25, and the
    /// threshold moves by as much as the values do.
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
        double margin = (power * relativeError * z.Max(Math.Abs)) + Rounding;
        return z.Count(score => Math.Abs((power * score) - tau) <= margin);
    }
}
