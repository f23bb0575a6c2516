using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention.Decoding;

/// <summary>
/// Softmax rows in the making, over keys that come in pieces and any order: for each row the largest score so far m, and the sum of
/// weights and of weighted values relative to exp(m).
/// </summary>
internal sealed class SoftmaxRows<T>(DecodePlan plan, DecodeScores<T> scores)
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly T[] _largest = new T[plan.RowShape.Count];
    private readonly T[] _sum = new T[plan.RowShape.Count];

    internal DecodeScores<T> Scores => scores;

    /// <summary>Weighted values, [entries, query heads, rows, value_dim].</summary>
    internal HostArray<T> X { get; } = new(plan.OutputShape);

    /// <summary>[entries, query heads, rows, 1].</summary>
    internal HostArray<T> LogSumExp { get; } = new(plan.RowShape);

    /// <summary>Starts the rows of one key head of one entry.</summary>
    internal void Begin(DecodeRows<T> rows)
    {
        for (int row = 0; row < rows.Count; row++)
        {
            _largest[rows.Index(row)] = T.NegativeInfinity;
        }
    }

    /// <summary>Adds keys to a row: their scores and values.</summary>
    internal void Add(DecodeRows<T> rows, int row, ReadOnlySpan<T> s, ReadOnlySpan<T> values)
    {
        int index = rows.Index(row);
        Span<T> x = rows.Of(X, row);
        T old = _largest[index];
        T largest = old;
        foreach (T score in s)
        {
            largest = T.Max(largest, score);
        }

        if (largest != old)
        {
            T factor = T.Exp(old - largest);
            TensorPrimitives.Multiply<T>(x, factor, x);
            _sum[index] *= factor;
            _largest[index] = largest;
        }

        for (int n = 0; n < s.Length; n++)
        {
            T weight = T.Exp(s[n] - largest);
            _sum[index] += weight;
            DecodeRows<T>.AddScaled(x, weight, values.Slice(n * x.Length, x.Length));
        }
    }

    /// <summary>Divides the rows by their sums; a row without keys stays 0 and has -infinity.</summary>
    internal void Finish(DecodeRows<T> rows)
    {
        for (int row = 0; row < rows.Count; row++)
        {
            int index = rows.Index(row);
            if (!T.IsZero(_sum[index]))
            {
                TensorPrimitives.Divide<T>(rows.Of(X, row), _sum[index], rows.Of(X, row));
            }

            rows.Of(LogSumExp, row)[0] = _largest[index] + T.Log(_sum[index]);
        }
    }
}
