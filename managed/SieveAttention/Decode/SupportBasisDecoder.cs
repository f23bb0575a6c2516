using System.Numerics;
using System.Numerics.Tensors;

namespace SieveAttention.Decoding;

/// <summary>
/// Support-basis attention of new rows over a cache. Query tiles count from the first new row, key tiles from key 0; the largest norm of
/// each key tile is kept in the cache, that of the open tile as far as it has come. The polynomial part is computed key by key.
/// </summary>
internal sealed class SupportBasisDecoder<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DecodePlan _plan;
    private readonly DecodeScores<T> _scores;
    private readonly SupportBasisOptions _options;
    private readonly KeySummary _norms;
    private long _tiles;
    private long _exact;

    internal SupportBasisDecoder(DecodePlan plan, DecodeScores<T> scores, SupportBasisOptions options)
    {
        _plan = plan;
        _scores = scores;
        _options = options;
        _norms = plan.Cache.Summary(new LargestNorms(options.Tile), 0, plan.Sequences);
        X = new HostArray<T>(plan.OutputShape);
    }

    /// <summary>Output before the epilogue.</summary>
    internal HostArray<T> X { get; }

    /// <summary>Exact tiles / tiles with a visible pair; 0 if there is none.</summary>
    internal double ExactFraction => _tiles == 0 ? 0 : (double)_exact / _tiles;

    /// <summary>Computes the rows of one key head of one entry.</summary>
    internal void Run(int entry, int keyHead)
    {
        AttentionProblem problem = _plan.Problems[entry];
        DecodeRows<T> rows = new(_plan, entry, keyHead);
        double[] weights = new double[problem.Keys];
        bool[] exact = new bool[(problem.Keys / _options.Tile) + 1];
        for (int head = 0; head < _plan.Group; head++)
        {
            for (int first = 0; first < problem.Queries;)
            {
                int count = Math.Min(_options.Tile, problem.Queries - first);
                int row = (head * problem.Queries) + first;
                Classify(entry, keyHead, rows, row, count, exact);
                for (int n = 0; n < count; n++)
                {
                    Compute(entry, keyHead, rows, row + n, exact, weights);
                }

                first += count;
            }
        }
    }

    /// <summary>A key tile is exact for a tile of rows iff |scale| max |g| |q| max |k| &gt; bound, strictly.</summary>
    private void Classify(int entry, int keyHead, DecodeRows<T> rows, int row, int count, bool[] exact)
    {
        AttentionProblem problem = _plan.Problems[entry];
        double[] wide = new double[problem.HeadDim];
        double largest = 0;
        for (int n = row; n < row + count; n++)
        {
            TensorPrimitives.ConvertTruncating<T, double>(rows.Of(_scores.Query, n), wide);
            double norm = InverseNorms.Norm(wide) * Math.Abs(double.CreateTruncating(_scores.RowFactor(entry, rows, n)));
            if (norm > largest)
            {
                largest = norm;
            }
        }

        int firstKey = problem.Visible(rows.Query(row)).First;
        int endKey = problem.Visible(rows.Query(row + count - 1)).End;
        double scale = Math.Abs(double.CreateTruncating(_scores.Scale(entry)));
        for (int tile = firstKey / _options.Tile; tile * (long)_options.Tile < endKey; tile++)
        {
            exact[tile] = scale * largest * _norms.Block(_plan.Sequences[entry], keyHead, tile)[0] > _options.Bound;
            Interlocked.Increment(ref _tiles);
            Interlocked.Add(ref _exact, exact[tile] ? 1 : 0);
        }
    }

    private void Compute(int entry, int keyHead, DecodeRows<T> rows, int row, bool[] exact, double[] weights)
    {
        KeyRange visible = _plan.Problems[entry].Visible(rows.Query(row));
        if (visible.Count == 0)
        {
            return;
        }

        Score(entry, keyHead, rows, row, visible, weights);

        // The logarithm of the largest weight is taken out of all, so that large exact scores do not overflow.
        double level = double.NegativeInfinity;
        for (int j = visible.First; j < visible.End; j++)
        {
            level = Math.Max(level, exact[j / _options.Tile] ? weights[j] : Math.Log(Math.Abs(Polynomial(weights[j]))));
        }

        level = double.IsNegativeInfinity(level) ? 0 : level;
        double sum = 0;
        for (int j = visible.First; j < visible.End; j++)
        {
            weights[j] = exact[j / _options.Tile] ? Math.Exp(weights[j] - level) : Polynomial(weights[j]) * Math.Exp(-level);
            sum += weights[j];
        }

        if (sum <= 0)
        {
            throw Guard.Tensor(
                nameof(DecodeInputs.Query),
                FormattableString.Invariant(
                    $"The weights of batch {entry}, head {rows.Head(row)}, query row {rows.Query(row)} sum to {sum * Math.Exp(level)}; ")
                + "allowed: a positive sum. Use Degree 2, which is positive everywhere, or a smaller Bound.");
        }

        AddValues(entry, keyHead, rows.Of(X, row), visible, weights, sum);
    }

    private void Score(int entry, int keyHead, DecodeRows<T> rows, int row, KeyRange visible, double[] target)
    {
        KeyValueCache cache = _plan.Cache;
        T[] keys = new T[KeyValueCache.LongestRun * cache.Layout.HeadDim];
        T[] scores = new T[KeyValueCache.LongestRun];
        for (int first = visible.First; first < visible.End;)
        {
            int count = cache.Run(first, visible.End);
            Span<T> s = scores.AsSpan(0, count);
            _scores.Compute(entry, rows, row, first, _scores.Keys(entry, keyHead, first, count, keys.AsSpan()), s);
            TensorPrimitives.ConvertTruncating<T, double>(s, target.AsSpan(first, count));
            first += count;
        }
    }

    private void AddValues(int entry, int keyHead, Span<T> x, KeyRange visible, double[] weights, double sum)
    {
        KeyValueCache cache = _plan.Cache;
        T[] values = new T[KeyValueCache.LongestRun * x.Length];
        for (int first = visible.First; first < visible.End;)
        {
            int count = cache.Run(first, visible.End);
            ReadOnlySpan<T> v = cache.Values(_plan.Sequences[entry], keyHead, first, count, values.AsSpan());
            for (int n = 0; n < count; n++)
            {
                DecodeRows<T>.AddScaled(x, T.CreateTruncating(weights[first + n] / sum), v.Slice(n * x.Length, x.Length));
            }

            first += count;
        }
    }

    /// <summary>1 + s, or 1 + s + s^2/2.</summary>
    private double Polynomial(double s) => _options.Degree == 1 ? 1 + s : 1 + s + (0.5 * s * s);
}
