using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Support-basis weights (after arXiv 2510.01643): w(s) = exp(s) where the pair's tile is exact, else the Taylor polynomial P of exp at 0;
/// each row is divided by its sum. ds_j = w'(s_j) (dw_j - sum w dw) / sum. Which tiles are exact carries no gradient; they are those of the
/// reference, found in float64, because a tile on the other side of the bound would change the result by far more than rounding.
/// </summary>
internal sealed unsafe class SupportBasisRow : RowFunction
{
    private readonly AttentionProblem _problem;
    private readonly Reference.SupportBasisTiles _tiles;
    private readonly int _tile;
    private readonly float _square;
    private readonly float[] _inverse;

    /// <param name="problem">The problem.</param>
    /// <param name="tiles">Which tiles are exact.</param>
    /// <param name="tile">Rows of a tile.</param>
    /// <param name="degree">Degree of the polynomial, 1 or 2.</param>
    internal SupportBasisRow(in AttentionProblem problem, Reference.SupportBasisTiles tiles, int tile, int degree)
    {
        _problem = problem;
        _tiles = tiles;
        _tile = tile;
        _square = degree == 1 ? 0 : 1;
        _inverse = new float[problem.RowShape.Count];
    }

    internal override bool WeightsSuffice => false;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Forward<TLanes, TVector>(in RowPlace place, float* row, float* scratch)
    {
        int count = place.Visible.Count;
        float level = MarkExact<TLanes, TVector>(place, row, scratch);
        TVector half = TLanes.Broadcast(0.5f);
        TVector m = TLanes.Broadcast(level);
        TVector factor = TLanes.Broadcast(MathF.Exp(-level));
        double total = 0;
        for (int first = 0; first < count; first += RowLanes<TLanes, TVector>.Block)
        {
            int end = Math.Min(first + RowLanes<TLanes, TVector>.Block, count);
            TVector sum = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                TVector score = TLanes.Load(row + c);
                TVector exact = TLanes.Load(scratch + c);
                TVector weight = TLanes.Add(
                    TLanes.WhereNotAtMost(exact, half, LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(score, m))),
                    TLanes.WhereNotAtMost(half, exact, TLanes.Multiply(Polynomial<TLanes, TVector>(score), factor)));
                TLanes.Store(row + c, weight);
                sum = TLanes.Add(sum, weight);
            }

            total += TLanes.Sum(sum);
        }

        if (total <= 0)
        {
            throw Guard.Tensor(
                "Query",
                FormattableString.Invariant(
                    $"The weights of batch {place.Batch}, head {place.Head}, query row {place.Row} sum to {total * Math.Exp(level)}; ")
                + "allowed: a positive sum. Use Degree 2, which is positive everywhere, or a smaller Bound.");
        }

        RowLanes<TLanes, TVector>.Divide(row, count, (float)total);
        _inverse[place.Index(_problem)] = (float)(Math.Exp(-level) / total);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal override void Backward<TLanes, TVector>(in RowPlace place, float* scores, float* weights, float* gradients, float* scratch)
    {
        int count = place.Visible.Count;
        MarkExact<TLanes, TVector>(place, scores, scratch);
        TVector half = TLanes.Broadcast(0.5f);
        TVector one = TLanes.Broadcast(1);
        TVector square = TLanes.Broadcast(_square);
        TVector inverse = TLanes.Broadcast(_inverse[place.Index(_problem)]);
        TVector delta = TLanes.Broadcast((float)RowLanes<TLanes, TVector>.Dot(weights, gradients, count));
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TVector exact = TLanes.Load(scratch + c);
            TVector polynomial = TLanes.Multiply(TLanes.MultiplyAdd(square, TLanes.Load(scores + c), one), inverse);
            TVector slope = TLanes.Add(
                TLanes.WhereNotAtMost(exact, half, TLanes.Load(weights + c)), TLanes.WhereNotAtMost(half, exact, polynomial));
            TLanes.Store(gradients + c, TLanes.Multiply(slope, TLanes.Subtract(TLanes.Load(gradients + c), delta)));
        }
    }

    /// <summary>
    /// Writes 1 where the tile of a key is exact, also behind the row, where exp(-infinity) is 0, and 0 elsewhere.
    /// </summary>
    /// <returns>
    /// What is taken out of all exponentials: the largest exact score, or 0 where that is less and there are polynomial weights, which are
    /// about 1.
    /// </returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private float MarkExact<TLanes, TVector>(in RowPlace place, float* scores, float* exact)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = place.Visible.Count;
        bool polynomial = false;
        for (int key = place.Visible.First; key < place.Visible.End;)
        {
            int end = (int)Math.Min(place.Visible.End, (((long)key / _tile) + 1) * _tile);
            bool isExact = _tiles.IsExact(place.Batch, place.Head, place.Row, key);
            new Span<float>(exact + key - place.Visible.First, end - key).Fill(isExact ? 1 : 0);
            polynomial |= !isExact;
            key = end;
        }

        for (int c = count; c % TLanes.Count != 0; c++)
        {
            exact[c] = 1;
        }

        TVector half = TLanes.Broadcast(0.5f);
        TVector lowest = TLanes.Broadcast(float.NegativeInfinity);
        TVector largest = lowest;
        for (int c = 0; c < count; c += TLanes.Count)
        {
            // Adding -infinity leaves the scores of polynomial tiles out of the maximum.
            TVector left = TLanes.WhereNotAtMost(half, TLanes.Load(exact + c), lowest);
            largest = TLanes.Max(largest, TLanes.Add(TLanes.Load(scores + c), left));
        }

        float level = TLanes.Largest(largest);
        return polynomial ? MathF.Max(level, 0) : level;
    }

    /// <summary>1 + s, or 1 + s + s^2/2.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private TVector Polynomial<TLanes, TVector>(TVector score)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector slope = TLanes.MultiplyAdd(TLanes.Broadcast(0.5f * _square), score, TLanes.Broadcast(1));
        return TLanes.MultiplyAdd(slope, score, TLanes.Broadcast(1));
    }
}
