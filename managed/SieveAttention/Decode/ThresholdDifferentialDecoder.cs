using System.Numerics;
using System.Numerics.Tensors;
using SieveAttention.Reference;

namespace SieveAttention.Decoding;

/// <summary>
/// Threshold differential attention of new rows over a cache: one pass over the keys, no running maximum, because the threshold of a row
/// is known from its position. Cosines are products with the raw cached keys times their cached inverse norms; values are read only
/// of runs of keys with a survivor.
/// </summary>
internal sealed class ThresholdDifferentialDecoder<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DecodePlan _plan;
    private readonly ThresholdDifferentialParameters _parameters;
    private readonly View _view1;
    private readonly View? _view2;
    private readonly T _power;
    private readonly HostArray<T>[] _x;

    internal ThresholdDifferentialDecoder(
        DecodePlan plan, ThresholdDifferentialParameters parameters, HostArray<T> query1, HostArray<T>? query2)
    {
        _plan = plan;
        _parameters = parameters;
        _power = T.CreateTruncating(parameters.Power);
        _view1 = new View(plan, 0, query1);
        _view2 = query2 is null ? null : new View(plan, 1, query2);
        _x = [.. Enumerable.Range(0, Math.Max(plan.Pieces, 1)).Select(_ => new HostArray<T>(plan.OutputShape))];
    }

    /// <summary>x of each row, before the epilogue.</summary>
    internal HostArray<T> X => _x[0];

    internal int[] Survivors1 => _view1.Survivors;

    internal int[]? Survivors2 => _view2?.Survivors;

    /// <summary>Computes all rows. There is no normaliser, so pieces of keys just add up, in their order.</summary>
    internal void Run(AttentionDevice device)
    {
        _plan.ForEachPiece(device, AddPiece);
        foreach (HostArray<T> piece in _x.AsSpan(1))
        {
            TensorPrimitives.Add<T>(X.Data, piece.Data, X.Data);
        }
    }

    private void AddPiece(int entry, int keyHead, DecodePiece piece)
    {
        KeyValueCache cache = _plan.Cache;
        int sequence = _plan.Sequences[entry];
        int dv = cache.Layout.ValueDim;
        DecodeRows<T> rows = new(_plan, entry, keyHead);
        T[] tau = Thresholds(entry, rows);
        T[] valueScratch = new T[KeyValueCache.LongestRun * dv];
        T[] keyScratch1 = new T[KeyValueCache.LongestRun * cache.Layout.HeadDim];
        T[] keyScratch2 = new T[_view2 is null ? 0 : keyScratch1.Length];
        for (int first = piece.Keys.First; first < piece.Keys.End;)
        {
            int count = cache.Run(first, piece.Keys.End);
            ReadOnlySpan<T> values = default;
            ReadOnlySpan<T> keys1 = cache.Keys(0, sequence, keyHead, first, count, keyScratch1.AsSpan());
            ReadOnlySpan<T> keys2 = _view2 is null ? default : cache.Keys(1, sequence, keyHead, first, count, keyScratch2.AsSpan());
            for (int row = 0; row < rows.Count; row++)
            {
                KeyRange visible = _plan.Problems[entry].Visible(rows.Query(row));
                T lambda = T.CreateTruncating(_parameters.Lambda[rows.Head(row)]);
                int end = Math.Min(first + count, visible.End);
                for (int j = Math.Max(first, visible.First); j < end; j++)
                {
                    T w = _view1.Weight(sequence, keyHead, j, rows, row, keys1, j - first, tau[row], _power);
                    if (_view2 is not null)
                    {
                        T a2 = _view2.Weight(sequence, keyHead, j, rows, row, keys2, j - first, tau[row], _power);

                        // Lambda 0 is the single-view operator, whatever view 2 holds.
                        w = T.IsZero(lambda) ? w : w - (lambda * a2);
                    }

                    if (!T.IsZero(w))
                    {
                        values = values.IsEmpty ? cache.Values(sequence, keyHead, first, count, valueScratch.AsSpan()) : values;
                        DecodeRows<T>.AddScaled(rows.Of(_x[piece.Number], row), w, values.Slice((j - first) * dv, dv));
                    }
                }
            }

            first += count;
        }
    }

    /// <summary>tau of each row; the expression of the forward pass, so that the same keys survive.</summary>
    private T[] Thresholds(int entry, DecodeRows<T> rows)
    {
        AttentionProblem problem = _plan.Problems[entry];
        T[] tau = new T[rows.Count];
        for (int row = 0; row < tau.Length; row++)
        {
            int n = problem.Visible(rows.Query(row)).Count;
            double steepness = ThresholdDifferential.Steepness(n, _parameters.Kappa, problem.HeadDim);
            tau[row] = T.CreateTruncating(ThresholdDifferential.Threshold(_parameters.Beta[rows.Head(row)], steepness));
        }

        return tau;
    }

    /// <summary>One pair of queries and cached keys.</summary>
    private sealed class View
    {
        private readonly HostArray<T> _unitQueries;
        private readonly KeySummary _inverseNorms;
        private readonly int _channels;

        internal View(DecodePlan plan, int view, HostArray<T> query)
        {
            _channels = query.Shape.Channels;
            _inverseNorms = plan.Cache.Summary(new InverseNorms(), view, plan.Sequences);
            _unitQueries = new HostArray<T>(query.Shape);
            double[] wide = new double[_channels];
            for (int start = 0; start < query.Data.Length; start += _channels)
            {
                TensorPrimitives.ConvertTruncating<T, double>(query.Data.AsSpan(start, _channels), wide);
                double norm = Math.Max(InverseNorms.Norm(wide), InverseNorms.Floor);
                for (int c = 0; c < _channels; c++)
                {
                    _unitQueries.Data[start + c] = T.CreateTruncating(wide[c] / norm);
                }
            }

            Survivors = new int[plan.RowShape.Count];
        }

        internal int[] Survivors { get; }

        /// <summary>a = (s - tau)_+^p of one pair; counts it where it survives.</summary>
        internal T Weight(
            int sequence, int keyHead, int key, DecodeRows<T> rows, int row, ReadOnlySpan<T> keys, int place, T tau, T power)
        {
            T inverse = T.CreateTruncating(_inverseNorms.Block(sequence, keyHead, key)[0]);
            T s = TensorPrimitives.Dot(rows.Of(_unitQueries, row), keys.Slice(place * _channels, _channels)) * inverse;

            // Written so that NaN stays NaN instead of turning into a masked key.
            if (s <= tau)
            {
                return T.Zero;
            }

            if (s > tau)
            {
                Interlocked.Increment(ref Survivors[rows.Index(row)]);
            }

            T e = s - tau;
            return power == T.One ? e
                : power == T.CreateTruncating(2) ? e * e
                : power == T.CreateTruncating(3) ? e * e * e
                : T.Pow(e, power);
        }
    }
}
