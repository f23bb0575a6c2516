using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention;

/// <summary>
/// The weights of threshold differential attention, row by row: in double for statistics and pictures, in float for the plain
/// evaluation that kernels are compared with. Scores are products of the operands as given, divided by both norms afterwards.
/// Thread-safe.
/// </summary>
internal sealed class ThresholdDifferentialRows<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly AttentionProblem _problem;
    private readonly ThresholdDifferentialParameters _parameters;
    private readonly HostArray<T>[] _queries;
    private readonly HostArray<T>[] _keys;
    private readonly T[][] _inverseKeyNorms;

    /// <summary>Makes the rows of one or two views.</summary>
    internal ThresholdDifferentialRows(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<T>[] queries, HostArray<T>[] keys)
    {
        _problem = problem;
        _parameters = parameters;
        _queries = queries;
        _keys = keys;
        _inverseKeyNorms = [.. _keys.Select(InverseNorms)];
    }

    /// <summary>Computes the weights of a row for all keys, 0 where a key is not visible.</summary>
    /// <param name="batch">Entry of the batch.</param>
    /// <param name="head">Query head.</param>
    /// <param name="row">Query row.</param>
    /// <param name="weights">Receives the weights.</param>
    /// <param name="survivors">Receives the survivors of both views; may be empty.</param>
    internal KeyRange Row(int batch, int head, int row, Span<T> weights, Span<int> survivors)
    {
        KeyRange visible = _problem.Visible(row);
        T threshold = Threshold(head, visible.Count);
        weights.Clear();
        survivors.Clear();
        for (int view = 0; view < _queries.Length; view++)
        {
            T sign = view == 0 ? T.One : -T.CreateChecked(_parameters.Lambda[head]);
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
    internal int KeysNearThreshold(int view, int batch, int head, int row, double margin)
    {
        KeyRange visible = _problem.Visible(row);
        T threshold = Threshold(head, visible.Count);
        RowScores scores = new(this, view, batch, head, row);
        int count = 0;
        for (int key = visible.First; key < visible.End; key++)
        {
            count += T.Abs(scores[key] - threshold) <= T.CreateChecked(margin) ? 1 : 0;
        }
        return count;
    }

    private T Threshold(int head, int visible)
    {
        T logarithm = visible == 0 ? T.Zero : T.Log(T.CreateChecked(visible) / T.CreateChecked(_parameters.Kappa));
        T two = T.One + T.One;
        return T.CreateChecked(_parameters.Beta[head]) * T.Sqrt(two * T.Max(logarithm, T.Zero) / T.CreateChecked(_problem.HeadDim));
    }

    private T Power(T exceedance) => _parameters.Power switch
    {
        1 => exceedance,
        2 => exceedance * exceedance,
        _ => T.Pow(exceedance, T.CreateChecked(_parameters.Power)),
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

        internal RowScores(ThresholdDifferentialRows<T> weights, int view, int batch, int head, int row)
        {
            AttentionProblem problem = weights._problem;
            int keyHead = problem.KeyHead(head);
            _query = weights._queries[view].Row(batch, head, row);
            _keys = weights._keys[view].Head(batch, keyHead);
            _inverseKeyNorms = weights._inverseKeyNorms[view].AsSpan(((batch * problem.KeyHeads) + keyHead) * problem.Keys, problem.Keys);
            _inverseNorm = InverseNorm(_query);
        }

        internal T this[int key] =>
            TensorPrimitives.Dot(_query, _keys.Slice(key * _query.Length, _query.Length)) * _inverseNorm * _inverseKeyNorms[key];
    }
}
