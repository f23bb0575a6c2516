namespace SieveAttention.Decoding;

/// <summary>
/// One <see cref="KeyMeasure"/> of one key view of a cache. It is brought up to date when it is asked for, at the cost of the keys
/// appended since; truncated blocks are folded again from their first key.
/// </summary>
internal sealed class KeySummary
{
    private readonly KeyValueCache _cache;
    private readonly KeyMeasure _measure;
    private readonly int _view;
    private readonly int _width;
    private readonly double[][] _blocks;
    private readonly int[] _seen;
    private readonly Lock _updating = new();

    internal KeySummary(KeyValueCache cache, KeyMeasure measure, int view)
    {
        _cache = cache;
        _measure = measure;
        _view = view;
        _width = measure.Width(cache.Layout.HeadDim);
        _blocks = new double[cache.Layout.Sequences * cache.Layout.KeyHeads][];
        Array.Fill(_blocks, []);
        _seen = new int[cache.Layout.Sequences];
    }

    /// <summary>The numbers of one block.</summary>
    internal ReadOnlySpan<double> Block(int sequence, int head, int block) =>
        _blocks[(sequence * _cache.Layout.KeyHeads) + head].AsSpan(block * _width, _width);

    /// <summary>The numbers of the first blocks, one after the other.</summary>
    internal ReadOnlySpan<double> Blocks(int sequence, int head, int count) =>
        _blocks[(sequence * _cache.Layout.KeyHeads) + head].AsSpan(0, count * _width);

    /// <summary>Takes in the keys appended since the last time.</summary>
    internal void CatchUp(int sequence)
    {
        lock (_updating)
        {
            int length = _cache.Length(sequence);
            if (_seen[sequence] == length)
            {
                return;
            }

            for (int head = 0; head < _cache.Layout.KeyHeads; head++)
            {
                Extend(sequence, head, _seen[sequence], length);
            }

            _seen[sequence] = length;
        }
    }

    /// <summary>Forgets the keys from <paramref name="length"/> on.</summary>
    internal void Forget(int sequence, int length)
    {
        if (_seen[sequence] > length)
        {
            _seen[sequence] = length / _measure.Unit * _measure.Unit;
        }
    }

    private void Extend(int sequence, int head, int first, int end)
    {
        ref double[] blocks = ref _blocks[(sequence * _cache.Layout.KeyHeads) + head];
        int needed = checked((((end - 1) / _measure.Unit) + 1) * _width);
        if (blocks.Length < needed)
        {
            Array.Resize(ref blocks, Math.Max(needed, 2 * blocks.Length));
        }

        int channels = _cache.Layout.HeadDim;
        double[] scratch = new double[KeyValueCache.LongestRun * channels];
        for (int key = first; key < end;)
        {
            int count = _cache.Run(key, end);
            ReadOnlySpan<double> keys = _cache.Keys<double>(_view, sequence, head, key, count, scratch);
            for (int n = 0; n < count; n++, key++)
            {
                Span<double> block = blocks.AsSpan(key / _measure.Unit * _width, _width);
                if (key % _measure.Unit == 0)
                {
                    _measure.Start(block);
                }

                _measure.Add(block, key % _measure.Unit, keys.Slice(n * channels, channels));
            }
        }
    }
}
