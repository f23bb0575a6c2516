using System.Numerics;

namespace SieveAttention.Decoding;

/// <summary>
/// Softmax attention of new rows over a cache, for one or more streams of scores that share the values: one pass with a running maximum
/// and sum for each row and stream, in which each run of values is read once for all of them. Long sequences are computed in pieces of
/// keys on several cores.
/// </summary>
internal sealed class SoftmaxDecoder<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly DecodePlan _plan;
    private readonly SoftmaxRows<T>[] _streams;

    internal SoftmaxDecoder(DecodePlan plan, params ReadOnlySpan<DecodeScores<T>> scores)
    {
        _plan = plan;
        _streams = new SoftmaxRows<T>[scores.Length];
        for (int n = 0; n < scores.Length; n++)
        {
            _streams[n] = new SoftmaxRows<T>(plan, scores[n], plan.Pieces);
        }
    }

    /// <summary>Output of a stream before the epilogue.</summary>
    internal HostArray<T> Output(int stream) => _streams[stream].X;

    /// <summary>Logarithm of the sum of exponentials, one a row; -infinity for a row without a visible key.</summary>
    internal HostArray<T> LogSumExp(int stream) => _streams[stream].LogSumExp;

    /// <summary>Computes all rows.</summary>
    internal void Run(AttentionDevice device)
    {
        _plan.ForEachPiece(device, AddPiece);
        _plan.ForEachHead(device, (entry, keyHead) =>
        {
            foreach (SoftmaxRows<T> stream in _streams)
            {
                stream.Finish(new DecodeRows<T>(_plan, entry, keyHead));
            }
        });
    }

    private void AddPiece(int entry, int keyHead, DecodePiece piece)
    {
        KeyValueCache cache = _plan.Cache;
        DecodeRows<T> rows = new(_plan, entry, keyHead);
        T[] values = new T[KeyValueCache.LongestRun * cache.Layout.ValueDim];
        T[] keys = new T[KeyValueCache.LongestRun * cache.Layout.HeadDim];
        T[] scores = new T[KeyValueCache.LongestRun];
        for (int first = piece.Keys.First; first < piece.Keys.End;)
        {
            int count = cache.Run(first, piece.Keys.End);
            ReadOnlySpan<T> v = cache.Values(_plan.Sequences[entry], keyHead, first, count, values.AsSpan());
            foreach (SoftmaxRows<T> stream in _streams)
            {
                ReadOnlySpan<T> k = stream.Scores.Keys(entry, keyHead, first, count, keys.AsSpan());
                for (int row = 0; row < rows.Count; row++)
                {
                    KeyRange visible = _plan.Problems[entry].Visible(rows.Query(row));
                    int from = Math.Max(first, visible.First);
                    int end = Math.Min(first + count, visible.End);
                    if (from < end)
                    {
                        Span<T> s = scores.AsSpan(0, end - from);
                        stream.Scores.Compute(entry, rows, row, from, k[((from - first) * cache.Layout.HeadDim)..], s);
                        stream.Add(piece.Number, rows, row, s, v[((from - first) * cache.Layout.ValueDim)..]);
                    }
                }
            }

            first += count;
        }
    }
}
