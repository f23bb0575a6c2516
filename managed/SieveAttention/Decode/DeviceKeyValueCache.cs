using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>
/// Keys and values of growing sequences in the memory of a CUDA device: what <see cref="KeyValueCache"/> is in host memory, for one view. Each
/// step appends the keys and values of the new rows and then asks an operator for their outputs with Decode.
/// </summary>
/// <remarks>
/// <para>
/// Contiguous: every sequence has room for the same number of keys in one piece. Paged: keys lie in pages of a fixed size, taken from a common
/// pool as sequences grow and given back by <see cref="Truncate"/>. All memory is allocated at once. The heads of a key lie side by side, so
/// that the new rows of a sequence are one copy where the caller's tensor holds them in that order too (a sequence-first view).
/// </para>
/// <para>
/// Lengths and page table are also kept in device memory, where decode reads them. Appending and truncating enqueue copies on a stream and do
/// not wait for earlier work; use the stream of the decode steps. Not thread-safe.
/// </para>
/// </remarks>
public sealed class DeviceKeyValueCache : IDisposable
{
    private readonly DeviceSequences _sequences;
    private readonly AttentionTensor _keys;
    private readonly AttentionTensor _values;

    private DeviceKeyValueCache(KeyValueCacheLayout layout, DeviceSequences sequences)
    {
        Layout = layout;
        _sequences = sequences;
        _keys = RowsFirst(layout.HeadDim);
        _values = RowsFirst(layout.ValueDim);
    }

    /// <summary>The device whose memory this is.</summary>
    public CudaDevice Device => _sequences.Device;

    /// <summary>What is kept for each key.</summary>
    public KeyValueCacheLayout Layout { get; }

    /// <summary>Whether keys lie in pages of a common pool.</summary>
    public bool IsPaged => _sequences.IsPaged;

    /// <summary>Keys of a page; the capacity of a sequence in a contiguous cache.</summary>
    public int PageSize => _sequences.PageSize;

    /// <summary>Pages in use and free; one for each sequence in a contiguous cache.</summary>
    public int Pages => _sequences.Pages;

    /// <summary>Pages that no sequence uses.</summary>
    public int FreePages => _sequences.FreePages;

    /// <summary>Makes an empty cache in which each sequence has its keys in one piece.</summary>
    /// <param name="device">Where.</param>
    /// <param name="layout">What is kept for each key: one view, Float16 or BFloat16.</param>
    /// <param name="capacity">Most keys of a sequence, at least 1.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static DeviceKeyValueCache Contiguous(CudaDevice device, KeyValueCacheLayout layout, int capacity)
    {
        Check(device, layout);
        return new DeviceKeyValueCache(layout, DeviceSequences.Contiguous(device, layout.Sequences, capacity));
    }

    /// <summary>Makes an empty cache in which sequences take pages from a common pool.</summary>
    /// <param name="device">Where.</param>
    /// <param name="layout">What is kept for each key: one view, Float16 or BFloat16.</param>
    /// <param name="pageSize">Keys of a page, a multiple of 16.</param>
    /// <param name="pages">Pages of all sequences together, at least 1.</param>
    /// <param name="capacity">Most keys of a sequence; all pages when absent. A decode step divides its work for this length.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static DeviceKeyValueCache Paged(
        CudaDevice device, KeyValueCacheLayout layout, int pageSize, int pages, int? capacity = null)
    {
        Check(device, layout);
        return new DeviceKeyValueCache(layout, DeviceSequences.Paged(device, layout.Sequences, pageSize, pages, capacity));
    }

    /// <summary>Number of keys of a sequence.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <returns>The number.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence.</exception>
    public int Length(int sequence) => _sequences.Length(sequence);

    /// <summary>The pages of a sequence: key j is row j modulo <see cref="PageSize"/> of entry j / <see cref="PageSize"/>.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <returns>Numbers of pages, in the order of the keys.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence.</exception>
    public IReadOnlyList<int> PageTable(int sequence) => _sequences.PageTable(sequence);

    /// <summary>The cache as a decode step reads it: some sequences that follow each other, or all.</summary>
    /// <param name="first">First sequence.</param>
    /// <param name="count">Number of sequences, at least 1; all from the first when absent.</param>
    /// <returns>Views of the cache's memory, to be disposed by the caller.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There are no such sequences.</exception>
    public CachedKeys View(int first = 0, int? count = null)
    {
        _sequences.CheckSequence(first);
        int entries = count ?? (Layout.Sequences - first);
        Guard.Between(1, Layout.Sequences - first, entries, nameof(count));
        return new CachedKeys
        {
            Key = _sequences.Entries(_keys, first, entries),
            Value = _sequences.Entries(_values, first, entries),
            Lengths = _sequences.Lengths(first, entries),
            PageTable = _sequences.Tables(first, entries),
        };
    }

    /// <summary>Appends keys and values to one sequence. Nothing changes where an argument is refused.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="key">[1, Hkv, T, D] in the type of the cache, in the memory of the device or of the host, any strides.</param>
    /// <param name="value">[1, Hkv, T, Dv].</param>
    /// <param name="stream">Where to enqueue the copies; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the memory of another device.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: the sequence is full, or too few pages are free.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Append(int sequence, AttentionTensor key, AttentionTensor value, AttentionStream? stream = null)
    {
        _sequences.CheckSequence(sequence);
        CheckTensors(1, key, value);
        _sequences.CheckRoom(sequence, key.Shape.Rows);
        Store(sequence, 0, key, value, stream);
        _sequences.PublishLengths(stream);
    }

    /// <summary>Appends as many keys and values to every sequence. Nothing changes where an argument is refused.</summary>
    /// <param name="key">[sequences, Hkv, T, D] in the type of the cache, in the memory of the device or of the host, any strides.</param>
    /// <param name="value">[sequences, Hkv, T, Dv].</param>
    /// <param name="stream">Where to enqueue the copies; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the memory of another device.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: a sequence is full, or too few pages are free.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Append(AttentionTensor key, AttentionTensor value, AttentionStream? stream = null)
    {
        CheckTensors(Layout.Sequences, key, value);
        _sequences.CheckRoomOfAll(key.Shape.Rows);
        for (int sequence = 0; sequence < Layout.Sequences; sequence++)
        {
            Store(sequence, sequence, key, value, stream);
        }

        _sequences.PublishLengths(stream);
    }

    /// <summary>Drops the keys of a sequence from <paramref name="length"/> on, for example rejected speculative ones.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="length">Keys that stay, 0 to its length.</param>
    /// <param name="stream">Where to enqueue the new length; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence, or it is shorter.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Truncate(int sequence, int length, AttentionStream? stream = null) => _sequences.Truncate(sequence, length, stream);

    /// <summary>Gives the memory back, after the work that uses it.</summary>
    public void Dispose()
    {
        _keys.Dispose();
        _values.Dispose();
        _sequences.Dispose();
    }

    /// <summary>The sequences that a step decodes.</summary>
    internal CachedKeys View(AttentionMask mask, AttentionTensor query, string queryName, IReadOnlyList<int>? sequences) =>
        View(_sequences.Choose(mask, query, queryName, sequences), query.Shape.Batch);

    private static void Check(CudaDevice device, KeyValueCacheLayout layout)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(layout);
        layout.Validate();
        Guard.Between(1, 1, layout.Views, nameof(layout.Views));
        if (layout.Type is not (TensorType.Float16 or TensorType.BFloat16))
        {
            throw Guard.OutOfRange(nameof(layout.Type), layout.Type, "Float16, BFloat16");
        }
    }

    /// <summary>[pages or sequences, heads, rows, channels], in which the heads of a row lie side by side.</summary>
    private AttentionTensor RowsFirst(int channels)
    {
        using AttentionTensor memory = AttentionTensor.Allocate(
            Layout.Type, new TensorShape(Pages, PageSize, Layout.KeyHeads, channels), Device);
        return memory.Permute(0, 2, 1, 3);
    }

    private void Store(int sequence, int entry, AttentionTensor key, AttentionTensor value, AttentionStream? stream)
    {
        int rows = key.Shape.Rows;
        int length = _sequences.Length(sequence);
        _sequences.Grow(sequence, rows, stream);
        for (int from = 0; from < rows;)
        {
            int target = length + from;
            int count = Math.Min(PageSize - (target % PageSize), rows - from);
            int page = _sequences.Page(sequence, target);
            Copy(key, entry, from, _keys, page, target % PageSize, count, stream);
            Copy(value, entry, from, _values, page, target % PageSize, count, stream);
            from += count;
        }
    }

    private static void Copy(
        AttentionTensor source, int entry, int from, AttentionTensor pages, int page, int row, int count, AttentionStream? stream)
    {
        using AttentionTensor sequence = source.Slice(0, entry, 1);
        using AttentionTensor rows = sequence.Slice(2, from, count);
        using AttentionTensor whole = pages.Slice(0, page, 1);
        using AttentionTensor target = whole.Slice(2, row, count);
        rows.CopyTo(target, stream);
    }

    private void CheckTensors(int batch, AttentionTensor key, AttentionTensor value)
    {
        CheckTensor(key, nameof(key));
        CheckTensor(value, nameof(value));
        TensorShape keys = new(batch, Layout.KeyHeads, key.Shape.Rows, Layout.HeadDim);
        TensorGuard.Shape(key, nameof(key), keys, "[sequences, key heads, new keys, head_dim]");
        TensorGuard.Shape(
            value, nameof(value), keys with { Channels = Layout.ValueDim }, "[sequences, key heads, new keys, value_dim]");
    }

    private void CheckTensor(AttentionTensor tensor, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        TensorGuard.Input(tensor, name, tensor.IsOnHost ? AttentionDevice.Cpu : Device);
        TensorGuard.Type(tensor, name, Layout.Type);
    }
}
