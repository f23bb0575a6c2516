namespace SieveAttention.Decoding;

/// <summary>
/// Lengths of the sequences of a cache in device memory, and which pages hold their keys: on the host, and where decode reads them, in the
/// memory of the device. Copies to the device are enqueued on a stream.
/// </summary>
internal sealed class DeviceSequences : IDisposable
{
    /// <summary>Page sizes are multiples of it: kernels read so many keys at once.</summary>
    internal const int PageUnit = 16;

    private readonly PageTables _tables;
    private readonly int[] _lengths;
    private readonly AttentionTensor _deviceLengths;
    private readonly AttentionTensor? _deviceTable;

    private DeviceSequences(CudaDevice device, int sequences, PageTables tables, bool isPaged)
    {
        Device = device;
        _tables = tables;
        _lengths = new int[sequences];
        _deviceLengths = device.Upload(_lengths, new TensorShape(1, 1, 1, sequences));
        _deviceTable = isPaged
            ? device.Upload(new int[sequences * tables.PerSequence], new TensorShape(1, 1, sequences, tables.PerSequence))
            : null;
    }

    internal CudaDevice Device { get; }

    internal int Count => _lengths.Length;

    internal bool IsPaged => _deviceTable is not null;

    /// <summary>Keys of a page; the capacity of a sequence in a contiguous cache.</summary>
    internal int PageSize => _tables.Size;

    /// <summary>One for each sequence in a contiguous cache.</summary>
    internal int Pages => _tables.Count;

    internal int FreePages => _tables.Free;

    internal static DeviceSequences Contiguous(CudaDevice device, int sequences, int capacity)
    {
        Guard.Between(1, int.MaxValue, capacity, nameof(capacity));
        return new DeviceSequences(device, sequences, new PageTables(sequences, capacity, sequences, pagesPerSequence: 1), isPaged: false);
    }

    internal static DeviceSequences Paged(CudaDevice device, int sequences, int pageSize, int pages, int? capacity)
    {
        int perSequence = CheckPages(sequences, pageSize, pages, capacity);
        return new DeviceSequences(device, sequences, new PageTables(sequences, pageSize, pages, perSequence), isPaged: true);
    }

    /// <summary>Checks sizes of pages and gives the largest number of pages of a sequence.</summary>
    internal static int CheckPages(int sequences, int pageSize, int pages, int? capacity)
    {
        if (pageSize < PageUnit || pageSize % PageUnit != 0)
        {
            throw Guard.OutOfRange(nameof(pageSize), pageSize, $"multiples of {PageUnit}");
        }

        Guard.Between(1, Array.MaxLength, pages, nameof(pages));
        long most = Math.Min((long)pageSize * pages, int.MaxValue);
        Guard.Between(1, most, capacity ?? most, nameof(capacity));
        int perSequence = (int)(((capacity ?? most) + pageSize - 1) / pageSize);
        Guard.Between(1, Array.MaxLength / sequences, perSequence, nameof(pages));
        return perSequence;
    }

    internal int Length(int sequence)
    {
        CheckSequence(sequence);
        return _lengths[sequence];
    }

    /// <summary>Numbers of pages, in the order of the keys.</summary>
    internal IReadOnlyList<int> PageTable(int sequence)
    {
        CheckSequence(sequence);
        return IsPaged ? [.. _tables.Table(sequence)] : [sequence];
    }

    /// <summary>The page, or the sequence, whose memory holds a key.</summary>
    internal int Page(int sequence, int key) => IsPaged ? _tables.Table(sequence)[key / PageSize] : sequence;

    /// <summary>Lengths of some sequences that follow each other as the device reads them: a view, to be disposed by the caller.</summary>
    internal AttentionTensor Lengths(int first, int count) => _deviceLengths.Slice(3, first, count);

    /// <summary>Page tables of some sequences that follow each other: a view, to be disposed by the caller; null in a contiguous cache.</summary>
    internal AttentionTensor? Tables(int first, int count) => _deviceTable?.Slice(2, first, count);

    /// <summary>The part of a tensor of the cache, [pages or sequences, ...], that these sequences need.</summary>
    internal AttentionTensor Entries(AttentionTensor tensor, int first, int count) =>
        tensor.Slice(0, IsPaged ? 0 : first, IsPaged ? Pages : count);

    internal void CheckSequence(int sequence) => Guard.Between(0, Count - 1, sequence, nameof(sequence));

    /// <exception cref="InvalidOperationException">More keys do not fit.</exception>
    internal void CheckRoom(int sequence, int rows) => _tables.CheckRoom(sequence, _lengths[sequence], rows);

    /// <exception cref="InvalidOperationException">More keys do not fit.</exception>
    internal void CheckRoomOfAll(int rows) => _tables.CheckRoomOfAll(_lengths, rows);

    /// <summary>Makes room for more keys, which has been checked to be there, and says the new length; the device does not know it yet.</summary>
    internal void Grow(int sequence, int rows, AttentionStream? stream)
    {
        int old = _tables.Table(sequence).Count;
        _tables.Extend(sequence, _lengths[sequence] + rows);
        _lengths[sequence] += rows;
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

    /// <summary>Drops keys; the device is told.</summary>
    internal void Truncate(int sequence, int length, AttentionStream? stream)
    {
        CheckSequence(sequence);
        Guard.Between(0, _lengths[sequence], length, nameof(length));
        _lengths[sequence] = length;
        _tables.Shorten(sequence, length);
        PublishLengths(stream);
    }

    /// <summary>Tells the device the lengths.</summary>
    internal void PublishLengths(AttentionStream? stream)
    {
        using AttentionTensor host = AttentionTensor.From<int>(_lengths, _deviceLengths.Shape);
        host.CopyTo(_deviceLengths, stream);
    }

    /// <summary>The first of the sequences that a step decodes, which follow each other; and whether their rows have their keys.</summary>
    internal int Choose(AttentionMask mask, AttentionTensor query, string queryName, IReadOnlyList<int>? sequences)
    {
        ArgumentNullException.ThrowIfNull(query, queryName);
        int[] chosen = sequences?.ToArray() ?? Enumerable.Range(0, Count).ToArray();
        for (int n = 0; n < chosen.Length; n++)
        {
            Guard.Between(0, Count - 1, chosen[n], "Sequences");
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

        return chosen.Length == 0 || chosen.Length != query.Shape.Batch
            ? throw Guard.Values(
                "Sequences", $"Sequences has {chosen.Length} numbers and {queryName} has batch {query.Shape.Batch}; allowed: as many, at least 1.")
            : chosen[0];
    }

    public void Dispose()
    {
        _deviceLengths.Dispose();
        _deviceTable?.Dispose();
    }
}
