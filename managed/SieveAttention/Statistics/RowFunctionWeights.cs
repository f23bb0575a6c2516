using System.Collections.Concurrent;
using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>The weights of an operator that is a function of the scores of one view, such as softmax or entmax.</summary>
internal class RowFunctionWeights : AttentionWeights
{
    /// <summary>The name of the only count of operators that leave keys out.</summary>
    private const string Support = "support";

    private readonly ScoreRows _scores;
    private readonly Func<RowFunction> _make;
    private readonly ConcurrentBag<RowFunction> _idle = [];

    /// <summary>Makes the weights.</summary>
    /// <param name="scores">The scores.</param>
    /// <param name="function">
    /// Makes the function; row functions have buffers, so that rows computed at the same time have their own.
    /// </param>
    /// <param name="countsSupport">Whether the keys with a weight are counted for each row.</param>
    internal RowFunctionWeights(ScoreRows scores, Func<RowFunction> function, bool countsSupport = false)
        : base(scores.Problem, scores.Problem.QueryHeads, countsSupport ? [Support] : [])
    {
        _scores = scores;
        _make = function;
    }

    private protected override KeyRange RowCore(int batch, int head, int row, Span<double> weights, Span<int> counts)
    {
        RowPlace place = new(batch, head, row, Problem.Visible(row));
        if (place.Visible.Count == 0)
        {
            return place.Visible;
        }

        double[] scores = new double[place.Visible.Count];
        Span<double> visible = weights.Slice(place.Visible.First, place.Visible.Count);
        _scores.Read(place, scores);
        RowFunction function = _idle.TryTake(out RowFunction? idle) ? idle : _make();
        function.Forward(place, scores, visible);
        _idle.Add(function);
        if (!counts.IsEmpty)
        {
            counts[0] = visible.Length - visible.Count(0);
        }

        return place.Visible;
    }
}
