using System.Numerics;
using System.Numerics.Tensors;
using SieveAttention.Cli.Pictures;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>
/// The weights of threshold differential attention, row by row, which operators never hold: for pictures (double) and for the
/// plain evaluation (float). Scores are products of the operands as given, divided by both norms afterwards. Thread-safe.
/// </summary>
internal sealed class ThresholdDifferentialWeights<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly AttentionProblem _problem;
    private readonly ThresholdDifferentialOptions _options;
    private readonly HostArray<T>[] _queries;
    private readonly HostArray<T>[] _keys;
    private readonly T[][] _inverseKeyNorms;

    /// <summary>Reads the operands of a case.</summary>
    public ThresholdDifferentialWeights(ThresholdDifferentialCase source)
    {
        _problem = source.Problem;
        _options = source.Options;
        _queries = [source.Inputs.Read<T>("q1"), source.Inputs.Read<T>("q2")];
        _keys = [source.Inputs.Read<T>("k1"), source.Inputs.Read<T>("k2")];
        _inverseKeyNorms = [.. _keys.Select(InverseNorms)];
    }

    /// <summary>The weights of one head.</summary>
    public IWeightSource Head(int batch, int head) => new HeadWeights(this, batch, head);

    /// <summary>Computes the weights of a row for all keys, 0 where a key is not visible.</summary>
    /// <param name="batch">Entry of the batch.</param>
    /// <param name="head">Query head.</param>
    /// <param name="row">Query row.</param>
    /// <param name="weights">Receives the weights.</param>
    /// <param name="survivors">Receives the survivors of both views; may be empty.</param>
    public KeyRange Row(int batch, int head, int row, Span<T> weights, Span<int> survivors)
    {
        KeyRange visible = _problem.Visible(row);
        T threshold = Threshold(visible.Count);
        weights.Clear();
        survivors.Clear();
        for (int view = 0; view < 2; view++)
        {
            T sign = view == 0 ? T.One : -T.CreateChecked(_options.Lambda);
            RowScores scores = new(this, view, batch, head, row);
            int count = 0;
            for (int key = visible.First; key < visible.End; key++)
            {
                T exceedance = scores[key] - threshold;
                if (exceedance > T.Zero)
                {
                    weights[key] += sign * Power(exceedance);
                    count++;
                }
            }
            if (!survivors.IsEmpty)
            {
                survivors[view] = count;
            }
        }
        return visible;
    }

    /// <summary>Visible keys of a row whose score in a view is within a margin of the threshold.</summary>
    public int KeysNearThreshold(int view, int batch, int head, int row, double margin)
    {
        KeyRange visible = _problem.Visible(row);
        T threshold = Threshold(visible.Count);
        RowScores scores = new(this, view, batch, head, row);
        int count = 0;
        for (int key = visible.First; key < visible.End; key++)
        {
            count += T.Abs(scores[key] - threshold) <= T.CreateChecked(margin) ? 1 : 0;
        }
        return count;
    }

    private T Threshold(int visible)
    {
        T logarithm = visible == 0 ? T.Zero : T.Log(T.CreateChecked(visible) / T.CreateChecked(_options.Kappa));
        T two = T.One + T.One;
        return T.CreateChecked(_options.Beta) * T.Sqrt(two * T.Max(logarithm, T.Zero) / T.CreateChecked(_problem.HeadDim));
    }

    private T Power(T exceedance) => _options.Power switch
    {
        1 => exceedance,
        2 => exceedance * exceedance,
        _ => T.Pow(exceedance, T.CreateChecked(_options.Power)),
    };

    private static T InverseNorm(ReadOnlySpan<T> row) => T.One / T.Max(TensorPrimitives.Norm(row), T.CreateChecked(1e-12));

    private static T[] InverseNorms(HostArray<T> array)
    {
        int channels = array.Shape.Channels;
        T[] norms = new T[array.Data.Length / channels];
        for (int row = 0; row < norms.Length; row++)
        {
            norms[row] = InverseNorm(array.Data.AsSpan(row * channels, channels));
        }
        return norms;
    }

    /// <summary>The scores of one row in one view.</summary>
    private readonly ref struct RowScores
    {
        private readonly ReadOnlySpan<T> _query;
        private readonly ReadOnlySpan<T> _keys;
        private readonly ReadOnlySpan<T> _inverseKeyNorms;
        private readonly T _inverseNorm;

        public RowScores(ThresholdDifferentialWeights<T> weights, int view, int batch, int head, int row)
        {
            AttentionProblem problem = weights._problem;
            int keyHead = problem.KeyHead(head);
            _query = weights._queries[view].Row(batch, head, row);
            _keys = weights._keys[view].Head(batch, keyHead);
            _inverseKeyNorms = weights._inverseKeyNorms[view].AsSpan(((batch * problem.KeyHeads) + keyHead) * problem.Keys, problem.Keys);
            _inverseNorm = InverseNorm(_query);
        }

        public T this[int key] =>
            TensorPrimitives.Dot(_query, _keys.Slice(key * _query.Length, _query.Length)) * _inverseNorm * _inverseKeyNorms[key];
    }

    /// <summary>One head in the form of a picture.</summary>
    private sealed class HeadWeights(ThresholdDifferentialWeights<T> weights, int batch, int head) : IWeightSource
    {
        public int Queries => weights._problem.Queries;

        public int Keys => weights._problem.Keys;

        public long QueryOffset => weights._problem.QueryOffset;

        public IReadOnlyList<string> CountNames { get; } = ["view 1", "view 2"];

        public (int First, int End) Row(int query, Span<double> target, Span<int> counts)
        {
            T[] row = new T[Keys];
            KeyRange visible = weights.Row(batch, head, query, row, counts);
            for (int key = 0; key < row.Length; key++)
            {
                target[key] = double.CreateChecked(row[key]);
            }
            return (visible.First, visible.End);
        }
    }
}
