using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>
/// Keys and values of growing sequences in host memory, for decoding: each step appends the keys and values of the new rows and
/// then asks an operator for their outputs with Decode. Sequences have lengths of their own.
/// </summary>
/// <remarks>
/// <para>
/// Contiguous: every sequence has room for the same number of keys in one piece. Paged: keys lie in pages of a fixed size, taken
/// from a common pool as sequences grow and given back by <see cref="Truncate"/>; <see cref="PageTable"/> says which. Results do not
/// depend on the form. Memory is made when it is first used.
/// </para>
/// <para>
/// Beside keys and values the cache keeps what operators that use it need to know of the keys (inverse norms, channel bounds, sums or
/// largest norms of blocks), made by the first decode step of such an operator and extended by the later ones.
/// </para>
/// <para>Several threads may decode at the same time; appending and truncating must not run beside anything else.</para>
/// </remarks>
public sealed class KeyValueCache
{
    /// <summary>Most keys that are read at once.</summary>
    internal const int LongestRun = 64;

    private readonly CachePages _pages;
    private readonly int[] _lengths;
    private readonly Dictionary<(KeyMeasure Measure, int View), KeySummary> _summaries = [];
    private readonly Lock _adding = new();

    private KeyValueCache(KeyValueCacheLayout layout, CachePages pages, bool isPaged)
    {
        Layout = layout;
        _pages = pages;
        IsPaged = isPaged;
        _lengths = new int[layout.Sequences];
    }

    /// <summary>What is kept for each key.</summary>
    public KeyValueCacheLayout Layout { get; }

    /// <summary>Whether keys lie in pages of a common pool.</summary>
    public bool IsPaged { get; }

    /// <summary>Keys of a page; the capacity of a sequence in a contiguous cache.</summary>
    public int PageSize => _pages.Size;

    /// <summary>Pages in use and free; one for each sequence in a contiguous cache.</summary>
    public int Pages => _pages.Count;

    /// <summary>Pages that no sequence uses.</summary>
    public int FreePages => _pages.Free;

    /// <summary>Makes an empty cache in which each sequence has its keys in one piece.</summary>
    /// <param name="layout">What is kept for each key.</param>
    /// <param name="capacity">Most keys of a sequence, at least 1.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    public static KeyValueCache Contiguous(KeyValueCacheLayout layout, int capacity)
    {
        Check(layout, capacity, nameof(capacity));
        return new KeyValueCache(layout, new CachePages(layout, capacity, layout.Sequences, pagesPerSequence: 1), isPaged: false);
    }

    /// <summary>Makes an empty cache in which sequences take pages from a common pool.</summary>
    /// <param name="layout">What is kept for each key.</param>
    /// <param name="pageSize">Keys of a page, at least 1.</param>
    /// <param name="pages">Pages of all sequences together, at least 1.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    public static KeyValueCache Paged(KeyValueCacheLayout layout, int pageSize, int pages)
    {
        Check(layout, pageSize, nameof(pageSize));
        Guard.Between(1, Array.MaxLength, pages, nameof(pages));
        return new KeyValueCache(layout, new CachePages(layout, pageSize, pages, pagesPerSequence: pages), isPaged: true);
    }

    /// <summary>Number of keys of a sequence.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <returns>The number.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence.</exception>
    public int Length(int sequence)
    {
        CheckSequence(sequence);
        return _lengths[sequence];
    }

    /// <summary>The pages of a sequence: key j is row j modulo <see cref="PageSize"/> of entry j / <see cref="PageSize"/>.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <returns>Numbers of pages, in the order of the keys.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence.</exception>
    public IReadOnlyList<int> PageTable(int sequence)
    {
        CheckSequence(sequence);
        return [.. _pages.Table(sequence)];
    }

    /// <summary>Appends keys and values to one sequence. Nothing changes where this fails.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="key">[1, Hkv, T, D] in host memory, any floating-point type and strides.</param>
    /// <param name="value">[1, Hkv, T, Dv].</param>
    /// <param name="key2">[1, Hkv, T, D]; exactly with two views.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: the sequence is full, or too few pages are free.</exception>
    public void Append(int sequence, AttentionTensor key, AttentionTensor value, AttentionTensor? key2 = null)
    {
        CheckSequence(sequence);
        CheckTensors(1, key, value, key2);
        _pages.CheckRoom(sequence, _lengths[sequence], key.Shape.Rows);
        Store(sequence, 0, key, value, key2);
    }

    /// <summary>Appends as many keys and values to every sequence. Nothing changes where this fails.</summary>
    /// <param name="key">[sequences, Hkv, T, D] in host memory, any floating-point type and strides.</param>
    /// <param name="value">[sequences, Hkv, T, Dv].</param>
    /// <param name="key2">[sequences, Hkv, T, D]; exactly with two views.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: a sequence is full, or too few pages are free.</exception>
    public void Append(AttentionTensor key, AttentionTensor value, AttentionTensor? key2 = null)
    {
        CheckTensors(Layout.Sequences, key, value, key2);
        _pages.CheckRoomOfAll(_lengths, key.Shape.Rows);
        for (int sequence = 0; sequence < Layout.Sequences; sequence++)
        {
            Store(sequence, sequence, key, value, key2);
        }
    }

    /// <summary>Drops the keys of a sequence from <paramref name="length"/> on, for example rejected speculative ones.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="length">Keys that stay, 0 to its length.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence, or it is shorter.</exception>
    public void Truncate(int sequence, int length)
    {
        CheckSequence(sequence);
        Guard.Between(0, _lengths[sequence], length, nameof(length));
        _lengths[sequence] = length;
        _pages.Shorten(sequence, length);
        foreach (KeySummary summary in _summaries.Values)
        {
            summary.Forget(sequence, length);
        }
    }

    /// <summary>Keys from <paramref name="key"/> on that can be read at once: within a page, at most <see cref="LongestRun"/>.</summary>
    internal int Run(int key, int end) => Math.Min(Math.Min(LongestRun, PageSize - (key % PageSize)), end - key);

    /// <summary>Rows of a run of keys, dense; <paramref name="scratch"/> is used where the cache has another type.</summary>
    internal ReadOnlySpan<T> Keys<T>(int view, int sequence, int head, int first, int count, Span<T> scratch)
        where T : unmanaged, IFloatingPointIeee754<T> =>
        Rows(_pages.Of(sequence, first).Keys(view), head, first % PageSize, count, scratch);

    /// <summary>The same for values.</summary>
    internal ReadOnlySpan<T> Values<T>(int sequence, int head, int first, int count, Span<T> scratch)
        where T : unmanaged, IFloatingPointIeee754<T> =>
        Rows(_pages.Of(sequence, first).Values, head, first % PageSize, count, scratch);

    /// <summary>A measure of the keys, up to date for the given sequences.</summary>
    internal KeySummary Summary(KeyMeasure measure, int view, ReadOnlySpan<int> sequences)
    {
        KeySummary? summary;
        lock (_adding)
        {
            if (!_summaries.TryGetValue((measure, view), out summary))
            {
                summary = new KeySummary(this, measure, view);
                _summaries.Add((measure, view), summary);
            }
        }

        foreach (int sequence in sequences)
        {
            summary.CatchUp(sequence);
        }

        return summary;
    }

    private static ReadOnlySpan<T> Rows<T>(AttentionTensor page, int head, int row, int count, Span<T> scratch)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        int channels = page.Shape.Channels;
        int start = ((head * page.Shape.Rows) + row) * channels;
        if (page.Type == TensorTypes.Of<T>())
        {
            return page.HostElements<T>().Slice(start, count * channels);
        }

        Span<T> target = scratch[..(count * channels)];
        TensorShape shape = new(1, 1, count, channels);
        TensorStrides dense = TensorStrides.Contiguous(shape);
        switch (page.Type)
        {
            case TensorType.Float64:
                ElementConversion.Gather(page.HostElements<double>()[start..], dense, shape, target);
                break;
            case TensorType.Float32:
                ElementConversion.Gather(page.HostElements<float>()[start..], dense, shape, target);
                break;
            case TensorType.Float16:
                ElementConversion.Gather(page.HostElements<Half>()[start..], dense, shape, target);
                break;
            default:
                ElementConversion.Gather(page.HostElements<BFloat16>()[start..], dense, shape, target);
                break;
        }

        return target;
    }

    private static void Check(KeyValueCacheLayout layout, int pageSize, string name)
    {
        ArgumentNullException.ThrowIfNull(layout);
        layout.Validate();
        long widest = (long)layout.KeyHeads * Math.Max(layout.HeadDim, layout.ValueDim);
        Guard.Between(1, Math.Max(1, Array.MaxLength / widest), pageSize, name);
    }

    private void Store(int sequence, int entry, AttentionTensor key, AttentionTensor value, AttentionTensor? key2)
    {
        int rows = key.Shape.Rows;
        _pages.Extend(sequence, _lengths[sequence] + rows);
        for (int from = 0; from < rows;)
        {
            int target = _lengths[sequence] + from;
            int count = Math.Min(PageSize - (target % PageSize), rows - from);
            Page page = _pages.Of(sequence, target);
            Copy(key, entry, from, page.Keys(0), target % PageSize, count);
            Copy(value, entry, from, page.Values, target % PageSize, count);
            if (key2 is not null)
            {
                Copy(key2, entry, from, page.Keys(1), target % PageSize, count);
            }

            from += count;
        }

        _lengths[sequence] += rows;
    }

    private static void Copy(AttentionTensor source, int entry, int from, AttentionTensor page, int row, int count)
    {
        using AttentionTensor sequence = source.Slice(0, entry, 1);
        using AttentionTensor rows = sequence.Slice(2, from, count);
        using AttentionTensor target = page.Slice(2, row, count);
        if (source.Type == page.Type)
        {
            rows.CopyTo(target);
        }
        else
        {
            // Every narrower type widens to double exactly, so this rounds once.
            HostArray<double>.Read(rows).WriteTo(target);
        }
    }

    private void CheckSequence(int sequence) => Guard.Between(0, Layout.Sequences - 1, sequence, nameof(sequence));

    private void CheckTensors(int batch, AttentionTensor key, AttentionTensor value, AttentionTensor? key2)
    {
        TensorGuard.Input(key, nameof(key), AttentionDevice.Cpu);
        TensorGuard.Input(value, nameof(value), AttentionDevice.Cpu);
        TensorShape keys = new(batch, Layout.KeyHeads, key.Shape.Rows, Layout.HeadDim);
        TensorGuard.Shape(key, nameof(key), keys, "[sequences, key heads, new keys, head_dim]");
        TensorGuard.Shape(
            value, nameof(value), keys with { Channels = Layout.ValueDim }, "[sequences, key heads, new keys, value_dim]");
        if (key2 is not null != (Layout.Views == 2))
        {
            throw Guard.Tensor(
                nameof(key2), $"key2 is {(key2 is null ? "absent" : "given")} and the cache has {Layout.Views} view(s); " +
                "allowed: a second key with two views only.");
        }

        if (key2 is not null)
        {
            TensorGuard.Input(key2, nameof(key2), AttentionDevice.Cpu);
            TensorGuard.Shape(key2, nameof(key2), keys, "[sequences, key heads, new keys, head_dim]");
        }
    }
}
