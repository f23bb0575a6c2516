using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention.Decoding;

/// <summary>
/// Softmax rows in the making, over keys that come in any order and in pieces that different threads may add at the same time: for each
/// row and piece the largest score so far m, and the sum of weights and of weighted values relative to exp(m).
/// </summary>
internal sealed class SoftmaxRows<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly Piece[] _pieces;

    internal SoftmaxRows(DecodePlan plan, DecodeScores<T> scores, int pieces)
    {
        Scores = scores;
        _pieces = new Piece[Math.Max(pieces, 1)];
        for (int n = 0; n < _pieces.Length; n++)
        {
            _pieces[n] = new Piece(new T[plan.RowShape.Count], new T[plan.RowShape.Count], new HostArray<T>(plan.OutputShape));
            Array.Fill(_pieces[n].Largest, T.NegativeInfinity);
        }

        LogSumExp = new HostArray<T>(plan.RowShape);
    }

    internal DecodeScores<T> Scores { get; }

    /// <summary>Weighted values, [entries, query heads, rows, value_dim].</summary>
    internal HostArray<T> X => _pieces[0].X;

    /// <summary>[entries, query heads, rows, 1].</summary>
    internal HostArray<T> LogSumExp { get; }

    /// <summary>Adds keys of a piece to a row: their scores and values.</summary>
    internal void Add(int piece, DecodeRows<T> rows, int row, ReadOnlySpan<T> s, ReadOnlySpan<T> values)
    {
        Piece into = _pieces[piece];
        int index = rows.Index(row);
        Span<T> x = rows.Of(into.X, row);
        T largest = into.Largest[index];
        foreach (T score in s)
        {
            largest = T.Max(largest, score);
        }

        into.Rescale(index, x, largest);
        for (int n = 0; n < s.Length; n++)
        {
            T weight = T.Exp(s[n] - largest);
            into.Sum[index] += weight;
            DecodeRows<T>.AddScaled(x, weight, values.Slice(n * x.Length, x.Length));
        }
    }

    /// <summary>Adds up the pieces in their order and divides by the sums; a row without keys stays 0 and has -infinity.</summary>
    internal void Finish(DecodeRows<T> rows)
    {
        Piece into = _pieces[0];
        for (int row = 0; row < rows.Count; row++)
        {
            int index = rows.Index(row);
            Span<T> x = rows.Of(into.X, row);
            foreach (Piece piece in _pieces.AsSpan(1))
            {
                // Where the piece has nothing of this row, its largest score is -infinity.
                if (!T.IsZero(piece.Sum[index]))
                {
                    T largest = T.Max(into.Largest[index], piece.Largest[index]);
                    into.Rescale(index, x, largest);
                    T factor = T.Exp(piece.Largest[index] - largest);
                    into.Sum[index] += factor * piece.Sum[index];
                    DecodeRows<T>.AddScaled(x, factor, rows.Of(piece.X, row));
                }
            }

            if (!T.IsZero(into.Sum[index]))
            {
                TensorPrimitives.Divide<T>(x, into.Sum[index], x);
            }

            rows.Of(LogSumExp, row)[0] = into.Largest[index] + T.Log(into.Sum[index]);
        }
    }

    private sealed record Piece(T[] Largest, T[] Sum, HostArray<T> X)
    {
        /// <summary>Makes the sums of a row relative to a score that is at least the largest so far.</summary>
        internal void Rescale(int index, Span<T> x, T largest)
        {
            if (largest != Largest[index])
            {
                T factor = T.Exp(Largest[index] - largest);
                TensorPrimitives.Multiply<T>(x, factor, x);
                Sum[index] *= factor;
                Largest[index] = largest;
            }
        }
    }
}
