using System.Numerics;
using SieveAttention.Reference;

namespace SieveAttention.Decoding;

/// <summary>
/// Alpha-entmax attention of new rows over a cache, exact, without reading all keys. The cache keeps a box around each block of keys, which
/// bounds the scores of the block: u = sum_c max(q_c min_c, q_c max_c). Blocks are read best bound first and tau is solved on the keys
/// read; tau of a part is never above tau of the whole row, so once (alpha - 1) u &lt;= tau for the best block not read, none of the
/// others has a key of positive weight, and tau is that of the whole row.
/// </summary>
internal sealed class EntmaxDecoder<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    /// <summary>Keys of a block: few enough for a tight box, enough for a bound to cost a small part of their scores.</summary>
    internal const int BlockSize = 16;

    private const int FirstBlocks = 4;

    private readonly DecodePlan _plan;
    private readonly DecodeScores<T> _scores;
    private readonly double[] _alpha;
    private readonly KeySummary _boxes;
    private readonly bool _skip;
    private readonly double _rounding;
    private long _blocks;
    private long _skipped;

    /// <param name="plan">The step.</param>
    /// <param name="scores">Scores.</param>
    /// <param name="alpha">One for each query head.</param>
    /// <param name="skip">False reads every block.</param>
    internal EntmaxDecoder(DecodePlan plan, DecodeScores<T> scores, double[] alpha, bool skip = true)
    {
        _plan = plan;
        _scores = scores;
        _alpha = alpha;
        _skip = skip;
        _boxes = plan.Cache.Summary(new KeyBounds(BlockSize), 0, plan.Sequences);

        // A score of head_dim products is off by less than this share of the sum of their magnitudes.
        _rounding = (plan.QueryShape.Channels + 8) * Math.ScaleB(1, typeof(T) == typeof(double) ? -53 : -24);
        X = new HostArray<T>(plan.OutputShape);
        Tau = new HostArray<T>(plan.RowShape);
        Array.Fill(Tau.Data, T.NaN);
        Support = new int[plan.RowShape.Count];
    }

    /// <summary>Output before the epilogue.</summary>
    internal HostArray<T> X { get; }

    /// <summary>Threshold of (alpha - 1) s; NaN for a row without a visible key.</summary>
    internal HostArray<T> Tau { get; }

    internal int[] Support { get; }

    /// <summary>Blocks with a visible key, over all rows.</summary>
    internal long Blocks => _blocks;

    /// <summary>Those of them that were not read.</summary>
    internal long Skipped => _skipped;

    /// <summary>Computes a row of one key head of one entry.</summary>
    internal void Run(int entry, int keyHead, int row)
    {
        DecodeRows<T> rows = new(_plan, entry, keyHead);
        KeyRange visible = _plan.Problems[entry].Visible(rows.Query(row));
        if (visible.Count > 0)
        {
            double alpha = _alpha[rows.Head(row)];
            Row scratch = new(_plan, entry, keyHead);
            scratch.Begin(visible);
            Bound(entry, keyHead, rows, row, visible, scratch);
            double tau = Read(entry, rows, row, alpha, scratch);
            Tau.Data[rows.Index(row)] = T.CreateTruncating(tau + ((alpha - 1) * scratch.Largest));
            Support[rows.Index(row)] = Sum(entry, keyHead, rows.Of(X, row), alpha, tau, scratch);
            Interlocked.Add(ref _blocks, scratch.Blocks);
            Interlocked.Add(ref _skipped, scratch.Blocks - scratch.BlocksRead);
        }
    }

    /// <summary>Bounds the scores of every visible block and orders the blocks by them.</summary>
    private void Bound(int entry, int keyHead, DecodeRows<T> rows, int row, KeyRange visible, Row scratch)
    {
        ReadOnlySpan<T> q = rows.Of(_scores.Query, row);
        double factor = double.CreateTruncating(_scores.Factor(entry, rows, row));
        for (int n = 0; n < scratch.Blocks; n++)
        {
            ReadOnlySpan<double> box = _boxes.Block(_plan.Sequences[entry], keyHead, scratch.FirstBlock + n);
            double bound = 0;
            double magnitude = 0;
            for (int c = 0; c < q.Length; c++)
            {
                double x = factor * double.CreateTruncating(q[c]);
                double low = x * box[c];
                double high = x * box[q.Length + c];
                bound += Math.Max(low, high);
                magnitude += Math.Max(Math.Abs(low), Math.Abs(high));
            }

            // The bias is linear in the key, so an end of the block has the largest.
            KeyRange keys = scratch.Keys(n);
            double bias = Math.Max(
                double.CreateTruncating(_scores.Bias(entry, rows, row, keys.First)),
                double.CreateTruncating(_scores.Bias(entry, rows, row, keys.End - 1)));
            bound += bias + (_rounding * (magnitude + Math.Abs(bias)));
            scratch.Bounds[n] = double.IsNaN(bound) ? double.PositiveInfinity : bound;
        }

        scratch.Order();
    }

    /// <summary>Reads blocks until the certificate holds and returns tau relative to the largest score.</summary>
    private double Read(int entry, DecodeRows<T> rows, int row, double alpha, Row scratch)
    {
        int wanted = _skip ? FirstBlocks : scratch.Blocks;
        while (true)
        {
            scratch.Read(_scores, entry, rows, row, wanted);
            double tau = scratch.Solve(alpha);
            int needed = scratch.UnreadAbove(tau, alpha);
            if (needed == 0)
            {
                return tau;
            }

            // At most doubling: tau still rises, and the cost of all solutions stays within a constant of that of the last one.
            wanted = Math.Min(needed, scratch.BlocksRead);
        }
    }

    /// <summary>Adds the values of the support in the order of the keys and returns their number.</summary>
    private int Sum(int entry, int keyHead, Span<T> x, double alpha, double tau, Row scratch)
    {
        int support = 0;
        T[] value = new T[x.Length];
        scratch.SortRead();
        foreach (int n in scratch.ReadBlocks)
        {
            KeyRange keys = scratch.Keys(n);
            for (int j = keys.First; j < keys.End; j++)
            {
                // Written so that NaN stays NaN instead of turning into a key outside the support.
                double z = (alpha - 1) * (scratch.Score(j) - scratch.Largest);
                double y = z <= tau ? 0 : z - tau;
                double p = alpha == 2 ? y : alpha == 1.5 ? y * y : Math.Pow(y, 1 / (alpha - 1));
                support += p > 0 ? 1 : 0;
                if (p != 0)
                {
                    ReadOnlySpan<T> v = _plan.Cache.Values(_plan.Sequences[entry], keyHead, j, 1, value.AsSpan());
                    DecodeRows<T>.AddScaled(x, T.CreateTruncating(p), v);
                }
            }
        }

        return support;
    }

    /// <summary>What is known of one row.</summary>
    private sealed class Row
    {
        private readonly DecodePlan _plan;
        private readonly int _keyHead;
        private readonly double[] _scores;
        private readonly double[] _shifted;
        private readonly int[] _order;
        private readonly T[] _keys;
        private readonly T[] _piece = new T[BlockSize];
        private KeyRange _visible;

        internal Row(DecodePlan plan, int entry, int keyHead)
        {
            _plan = plan;
            _keyHead = keyHead;
            int keys = plan.Problems[entry].Keys;
            _scores = new double[keys];
            _shifted = new double[keys];
            Bounds = new double[(keys / BlockSize) + 1];
            _order = new int[Bounds.Length];
            _keys = new T[BlockSize * plan.QueryShape.Channels];
        }

        internal int FirstBlock { get; private set; }

        /// <summary>Blocks with a visible key.</summary>
        internal int Blocks { get; private set; }

        internal int BlocksRead { get; private set; }

        /// <summary>Upper bound of the scores of each block; negated and in the order of reading after <see cref="Order"/>.</summary>
        internal double[] Bounds { get; }

        /// <summary>Largest score read.</summary>
        internal double Largest { get; private set; }

        internal ReadOnlySpan<int> ReadBlocks => _order.AsSpan(0, BlocksRead);

        internal void Begin(KeyRange visible)
        {
            _visible = visible;
            FirstBlock = visible.First / BlockSize;
            Blocks = ((visible.End - 1) / BlockSize) + 1 - FirstBlock;
            BlocksRead = 0;
            Largest = double.NegativeInfinity;
        }

        /// <summary>Visible keys of a block, which is counted from the first visible one.</summary>
        internal KeyRange Keys(int block)
        {
            int first = (FirstBlock + block) * BlockSize;
            return new KeyRange(Math.Max(first, _visible.First), Math.Min(first + BlockSize, _visible.End));
        }

        internal double Score(int key) => _scores[key];

        internal void Order()
        {
            for (int n = 0; n < Blocks; n++)
            {
                _order[n] = n;
                Bounds[n] = -Bounds[n];
            }

            Array.Sort(Bounds, _order, 0, Blocks);
        }

        /// <summary>Puts the blocks that were read in the order of their keys; nothing is read after that.</summary>
        internal void SortRead() => Array.Sort(_order, 0, BlocksRead);

        /// <summary>Computes the scores of the next blocks.</summary>
        internal void Read(DecodeScores<T> scores, int entry, DecodeRows<T> rows, int row, int blocks)
        {
            for (int end = Math.Min(Blocks, BlocksRead + blocks); BlocksRead < end; BlocksRead++)
            {
                KeyRange keys = Keys(_order[BlocksRead]);
                for (int first = keys.First; first < keys.End;)
                {
                    int count = _plan.Cache.Run(first, keys.End);
                    Span<T> s = _piece.AsSpan(0, count);
                    scores.Compute(entry, rows, row, first, scores.Keys(entry, _keyHead, first, count, _keys.AsSpan()), s);
                    for (int n = 0; n < count; n++)
                    {
                        _scores[first + n] = double.CreateTruncating(s[n]);
                        Largest = Math.Max(Largest, _scores[first + n]);
                    }

                    first += count;
                }
            }
        }

        /// <summary>Number of blocks not read whose bound does not prove that all their weights are 0.</summary>
        internal int UnreadAbove(double tau, double alpha)
        {
            int count = 0;
            while (BlocksRead + count < Blocks && !((alpha - 1) * (-Bounds[BlocksRead + count] - Largest) <= tau))
            {
                count++;
            }

            return count;
        }

        /// <summary>tau of the keys read, relative to the largest score.</summary>
        internal double Solve(double alpha)
        {
            int count = 0;
            foreach (int block in ReadBlocks)
            {
                KeyRange keys = Keys(block);
                for (int j = keys.First; j < keys.End; j++)
                {
                    _shifted[count++] = (alpha - 1) * (_scores[j] - Largest);
                }
            }

            return EntmaxThreshold.Solve(_shifted.AsSpan(0, count), alpha);
        }
    }
}
