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
    private readonly PageTables _tables;
    private readonly int[] _lengths;
    private readonly AttentionTensor _keys;
    private readonly AttentionTensor _values;
    private readonly AttentionTensor _deviceLengths;
    private readonly AttentionTensor? _deviceTable;

    private DeviceKeyValueCache(CudaDevice device, KeyValueCacheLayout layout, PageTables tables, bool isPaged)
    {
        Device = device;
        Layout = layout;
        _tables = tables;
        _lengths = new int[layout.Sequences];
        _deviceLengths = device.Upload(_lengths, new TensorShape(1, 1, 1, layout.Sequences));
        _deviceTable = isPaged
            ? device.Upload(new int[layout.Sequences * tables.PerSequence], new TensorShape(1, 1, layout.Sequences, tables.PerSequence))
            : null;
        _keys = RowsFirst(layout.HeadDim);
        _values = RowsFirst(layout.ValueDim);
    }

    /// <summary>The device whose memory this is.</summary>
    public CudaDevice Device { get; }

    /// <summary>What is kept for each key.</summary>
    public KeyValueCacheLayout Layout { get; }

    /// <summary>Whether keys lie in pages of a common pool.</summary>
    public bool IsPaged => _deviceTable is not null;

    /// <summary>Keys of a page; the capacity of a sequence in a contiguous cache.</summary>
    public int PageSize => _tables.Size;

    /// <summary>Pages in use and free; one for each sequence in a contiguous cache.</summary>
    public int Pages => _tables.Count;

    /// <summary>Pages that no sequence uses.</summary>
    public int FreePages => _tables.Free;

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
        Guard.Between(1, int.MaxValue, capacity, nameof(capacity));
        return new DeviceKeyValueCache(
            device, layout, new PageTables(layout.Sequences, capacity, layout.Sequences, pagesPerSequence: 1), isPaged: false);
    }

    /// <summary>Makes an empty cache in which sequences take pages from a common pool.</summary>
    /// <param name="device">Where.</param>
    /// <param name="layout">What is kept for each key: one view, Float16 or BFloat16.</param>
    /// <param name="pageSize">Keys of a page, at least 1.</param>
    /// <param name="pages">Pages of all sequences together, at least 1.</param>
    /// <param name="capacity">Most keys of a sequence; all pages when absent. A decode step divides its work for this length.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static DeviceKeyValueCache Paged(
        CudaDevice device, KeyValueCacheLayout layout, int pageSize, int pages, int? capacity = null)
    {
        Check(device, layout);
        Guard.Between(1, int.MaxValue, pageSize, nameof(pageSize));
        Guard.Between(1, Array.MaxLength, pages, nameof(pages));
        long most = Math.Min((long)pageSize * pages, int.MaxValue);
        Guard.Between(1, most, capacity ?? most, nameof(capacity));
        int perSequence = (int)(((capacity ?? most) + pageSize - 1) / pageSize);
        Guard.Between(1, Array.MaxLength / layout.Sequences, perSequence, nameof(pages));
        return new DeviceKeyValueCache(
            device, layout, new PageTables(layout.Sequences, pageSize, pages, perSequence), isPaged: true);
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
        return IsPaged ? [.. _tables.Table(sequence)] : [sequence];
    }

    /// <summary>The cache as a decode step reads it: some sequences that follow each other, or all.</summary>
    /// <param name="first">First sequence.</param>
    /// <param name="count">Number of sequences, at least 1; all from the first when absent.</param>
    /// <returns>Views of the cache's memory, to be disposed by the caller.</returns>
    /// <exception cref="ArgumentOutOfRangeException">There are no such sequences.</exception>
    public CachedKeys View(int first = 0, int? count = null)
    {
        CheckSequence(first);
        int entries = count ?? (Layout.Sequences - first);
        Guard.Between(1, Layout.Sequences - first, entries, nameof(count));
        return new CachedKeys
        {
            Key = _keys.Slice(0, IsPaged ? 0 : first, IsPaged ? Pages : entries),
            Value = _values.Slice(0, IsPaged ? 0 : first, IsPaged ? Pages : entries),
            Lengths = _deviceLengths.Slice(3, first, entries),
            PageTable = _deviceTable?.Slice(2, first, entries),
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
        CheckSequence(sequence);
        CheckTensors(1, key, value);
        _tables.CheckRoom(sequence, _lengths[sequence], key.Shape.Rows);
        Store(sequence, 0, key, value, stream);
        PublishLengths(stream);
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
        _tables.CheckRoomOfAll(_lengths, key.Shape.Rows);
        for (int sequence = 0; sequence < Layout.Sequences; sequence++)
        {
            Store(sequence, sequence, key, value, stream);
        }

        PublishLengths(stream);
    }

    /// <summary>Drops the keys of a sequence from <paramref name="length"/> on, for example rejected speculative ones.</summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="length">Keys that stay, 0 to its length.</param>
    /// <param name="stream">Where to enqueue the new length; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no such sequence, or it is shorter.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Truncate(int sequence, int length, AttentionStream? stream = null)
    {
        CheckSequence(sequence);
        Guard.Between(0, _lengths[sequence], length, nameof(length));
        _lengths[sequence] = length;
        _tables.Shorten(sequence, length);
        PublishLengths(stream);
    }

    /// <summary>Gives the memory back, after the work that uses it.</summary>
    public void Dispose()
    {
        _keys.Dispose();
        _values.Dispose();
        _deviceLengths.Dispose();
        _deviceTable?.Dispose();
    }

    /// <summary>The sequences that a step decodes, which follow each other; and whether their rows have their keys.</summary>
    internal CachedKeys View(AttentionMask mask, AttentionTensor query, string queryName, IReadOnlyList<int>? sequences)
    {
        ArgumentNullException.ThrowIfNull(query, queryName);
        int[] chosen = sequences?.ToArray() ?? Enumerable.Range(0, Layout.Sequences).ToArray();
        for (int n = 0; n < chosen.Length; n++)
        {
            Guard.Between(0, Layout.Sequences - 1, chosen[n], "Sequences");
            if (chosen[n] != chosen[0] + n)
            {
                throw Guard.Values(
                    "Sequences", $"Sequences holds {chosen[n]} after {chosen[n - 1]}; allowed on {Device.Name}: sequences that follow each other.");
            }

            if (mask.Causal && query.Shape.Rows > _lengths[chosen[n]])
            {
                throw Guard.Tensor(
                    queryName,
                    $"{queryName} has {query.Shape.Rows} rows and sequence {chosen[n]} has {_lengths[chosen[n]]} keys; " +
                    "allowed: at most as many rows as keys. Append the keys of the new rows first.");
            }
        }

        if (chosen.Length == 0 || chosen.Length != query.Shape.Batch)
        {
            throw Guard.Values(
                "Sequences", $"Sequences has {chosen.Length} numbers and {queryName} has batch {query.Shape.Batch}; allowed: as many, at least 1.");
        }

        return View(chosen[0], chosen.Length);
    }

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
            Layout.Type, new TensorShape(_tables.Count, _tables.Size, Layout.KeyHeads, channels), Device);
        return memory.Permute(0, 2, 1, 3);
    }

    private void Store(int sequence, int entry, AttentionTensor key, AttentionTensor value, AttentionStream? stream)
    {
        int rows = key.Shape.Rows;
        int old = _tables.Table(sequence).Count;
        _tables.Extend(sequence, _lengths[sequence] + rows);
        PublishTable(sequence, old, stream);
        for (int from = 0; from < rows;)
        {
            int target = _lengths[sequence] + from;
            int count = Math.Min(PageSize - (target % PageSize), rows - from);
            int page = IsPaged ? _tables.Table(sequence)[target / PageSize] : sequence;
            Copy(key, entry, from, _keys, page, target % PageSize, count, stream);
            Copy(value, entry, from, _values, page, target % PageSize, count, stream);
            from += count;
        }

        _lengths[sequence] += rows;
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

    private void PublishLengths(AttentionStream? stream)
    {
        using AttentionTensor host = AttentionTensor.From<int>(_lengths, _deviceLengths.Shape);
        host.CopyTo(_deviceLengths, stream);
    }

    /// <summary>Puts the pages that a sequence got into the table on the device.</summary>
    private void PublishTable(int sequence, int old, AttentionStream? stream)
    {
        int[] added = [.. _tables.Table(sequence).Skip(old)];
        if (_deviceTable is null || added.Length == 0)
        {
            return;
        }

        using AttentionTensor row = _deviceTable.Slice(2, sequence, 1);
        using AttentionTensor target = row.Slice(3, old, added.Length);
        using AttentionTensor host = AttentionTensor.From<int>(added, target.Shape);
        host.CopyTo(target, stream);
    }

    private void CheckSequence(int sequence) => Guard.Between(0, Layout.Sequences - 1, sequence, nameof(sequence));

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
