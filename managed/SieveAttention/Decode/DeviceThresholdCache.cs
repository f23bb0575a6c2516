using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>
/// Keys and values of growing sequences in the memory of a CUDA device, for decoding with <see cref="ThresholdDifferentialAttention"/>: what
/// <see cref="KeyValueCache"/> is in host memory, and <see cref="DeviceKeyValueCache"/> for softmax attention. Beside the keys it keeps their
/// inverse norms and, with a <see cref="KeyScreen"/>, images by which decode rules most of them out. Each step appends the keys and values of
/// the new rows and then asks the operator for their outputs with Decode.
/// </summary>
/// <remarks>
/// <para>
/// Contiguous: every sequence has room for the same number of keys in one piece. Paged: keys lie in pages of a fixed size, taken from a common
/// pool as sequences grow and given back by <see cref="Truncate"/>. All memory is allocated at once. The keys of a head lie side by side.
/// </para>
/// <para>
/// Lengths and page table are also kept in device memory, where decode reads them. Appending and truncating enqueue their work on a stream and
/// do not wait for earlier work; use the stream of the decode steps. Not thread-safe.
/// </para>
/// </remarks>
public sealed class DeviceThresholdCache : IDisposable
{
    private readonly DeviceSequences _sequences;
    private readonly List<AttentionTensor> _owned = [];
    private readonly CachedThresholdKeys _all;

    private DeviceThresholdCache(KeyValueCacheLayout layout, KeyScreen screen, DeviceSequences sequences)
    {
        Layout = layout;
        _sequences = sequences;
        bool two = layout.Views == 2;
        int blocks = (PageSize + CachedThresholdKeys.KeysOfImage - 1) / CachedThresholdKeys.KeysOfImage;
        int words = CachedThresholdKeys.ImageWords(screen, layout.HeadDim);
        try
        {
            _all = new CachedThresholdKeys
            {
                Key1 = Make(layout.Type, PageSize, layout.HeadDim),
                Key2 = two ? Make(layout.Type, PageSize, layout.HeadDim) : null,
                Value = Make(layout.Type, PageSize, layout.ValueDim),
                InverseNorms1 = Make(TensorType.Float32, PageSize, 1),
                InverseNorms2 = two ? Make(TensorType.Float32, PageSize, 1) : null,
                Screen = screen,
                Images1 = words > 0 ? Make(TensorType.Int32, blocks, words) : null,
                Images2 = words > 0 && two ? Make(TensorType.Int32, blocks, words) : null,
            };
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The device whose memory this is.</summary>
    public CudaDevice Device => _sequences.Device;

    /// <summary>What is kept for each key.</summary>
    public KeyValueCacheLayout Layout { get; }

    /// <summary>What decode looks at before it reads keys.</summary>
    public KeyScreen Screen => _all.Screen;

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
    /// <param name="layout">What is kept for each key: one or two views, Float16 or BFloat16, sizes that the device decodes.</param>
    /// <param name="capacity">Most keys of a sequence, at least 1.</param>
    /// <param name="screen">Images to keep beside the keys.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    /// <exception cref="NotSupportedException">The device does not decode these sizes; says which it does.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static DeviceThresholdCache Contiguous(
        CudaDevice device, KeyValueCacheLayout layout, int capacity, KeyScreen screen = KeyScreen.None)
    {
        Check(device, layout, screen);
        return new DeviceThresholdCache(layout, screen, DeviceSequences.Contiguous(device, layout.Sequences, capacity));
    }

    /// <summary>Makes an empty cache in which sequences take pages from a common pool.</summary>
    /// <param name="device">Where.</param>
    /// <param name="layout">What is kept for each key: one or two views, Float16 or BFloat16, sizes that the device decodes.</param>
    /// <param name="pageSize">Keys of a page, a multiple of 16.</param>
    /// <param name="pages">Pages of all sequences together, at least 1.</param>
    /// <param name="capacity">Most keys of a sequence; all pages when absent. A decode step divides its work for this length.</param>
    /// <param name="screen">Images to keep beside the keys.</param>
    /// <returns>The cache.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A number is out of range; names it.</exception>
    /// <exception cref="NotSupportedException">The device does not decode these sizes; says which it does.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static DeviceThresholdCache Paged(
        CudaDevice device, KeyValueCacheLayout layout, int pageSize, int pages, int? capacity = null, KeyScreen screen = KeyScreen.None)
    {
        Check(device, layout, screen);
        return new DeviceThresholdCache(layout, screen, DeviceSequences.Paged(device, layout.Sequences, pageSize, pages, capacity));
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
    public CachedThresholdKeys View(int first = 0, int? count = null)
    {
        _sequences.CheckSequence(first);
        int entries = count ?? (Layout.Sequences - first);
        Guard.Between(1, Layout.Sequences - first, entries, nameof(count));
        return new CachedThresholdKeys
        {
            Key1 = Part(_all.Key1),
            Key2 = PartOf(_all.Key2),
            Value = Part(_all.Value),
            InverseNorms1 = Part(_all.InverseNorms1),
            InverseNorms2 = PartOf(_all.InverseNorms2),
            Screen = _all.Screen,
            Images1 = PartOf(_all.Images1),
            Images2 = PartOf(_all.Images2),
            Lengths = _sequences.Lengths(first, entries),
            PageTable = _sequences.Tables(first, entries),
        };

        AttentionTensor Part(AttentionTensor tensor) => _sequences.Entries(tensor, first, entries);
        AttentionTensor? PartOf(AttentionTensor? tensor) => tensor is null ? null : Part(tensor);
    }

    /// <summary>
    /// Appends keys and values to one sequence: one launch, after copies of those that lie in host memory. Nothing changes where an argument is
    /// refused.
    /// </summary>
    /// <param name="sequence">0 to sequences - 1.</param>
    /// <param name="key1">[1, Hkv, T, D] in the type of the cache, in the memory of the device or of the host, any strides.</param>
    /// <param name="value">[1, Hkv, T, Dv].</param>
    /// <param name="key2">[1, Hkv, T, D]; exactly with two views.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the memory of another device.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: the sequence is full, or too few pages are free.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Append(
        int sequence, AttentionTensor key1, AttentionTensor value, AttentionTensor? key2 = null, AttentionStream? stream = null)
    {
        _sequences.CheckSequence(sequence);
        CheckTensors(1, key1, value, key2, stream);
        _sequences.CheckRoom(sequence, key1.Shape.Rows);
        Store(sequence, 1, key1, value, key2, stream);
    }

    /// <summary>
    /// Appends as many keys and values to every sequence: one launch, after copies of those that lie in host memory. Nothing changes where an
    /// argument is refused.
    /// </summary>
    /// <param name="key1">[sequences, Hkv, T, D] in the type of the cache, in the memory of the device or of the host, any strides.</param>
    /// <param name="value">[sequences, Hkv, T, Dv].</param>
    /// <param name="key2">[sequences, Hkv, T, D]; exactly with two views.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the memory of another device.</exception>
    /// <exception cref="InvalidOperationException">The keys do not fit: a sequence is full, or too few pages are free.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Append(AttentionTensor key1, AttentionTensor value, AttentionTensor? key2 = null, AttentionStream? stream = null)
    {
        CheckTensors(Layout.Sequences, key1, value, key2, stream);
        _sequences.CheckRoomOfAll(key1.Shape.Rows);
        Store(0, Layout.Sequences, key1, value, key2, stream);
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
        _owned.ForEach(tensor => tensor.Dispose());
        _sequences.Dispose();
    }

    /// <summary>The sequences that a step decodes.</summary>
    internal CachedThresholdKeys View(AttentionMask mask, AttentionTensor query, string queryName, IReadOnlyList<int>? sequences) =>
        View(_sequences.Choose(mask, query, queryName, sequences), query.Shape.Batch);

    /// <summary>Checks what can be checked without a device.</summary>
    internal static void CheckLayout(KeyValueCacheLayout layout, KeyScreen screen)
    {
        ArgumentNullException.ThrowIfNull(layout);
        layout.Validate();
        if (layout.Type is not (TensorType.Float16 or TensorType.BFloat16))
        {
            throw Guard.OutOfRange(nameof(layout.Type), layout.Type, "Float16, BFloat16");
        }

        Guard.Defined(screen, nameof(screen));
    }

    private static void Check(CudaDevice device, KeyValueCacheLayout layout, KeyScreen screen)
    {
        ArgumentNullException.ThrowIfNull(device);
        CheckLayout(layout, screen);
        if (!device.Supports(
            AttentionOperation.ThresholdDifferential,
            AttentionDirection.Decode,
            layout.Type,
            layout.HeadDim,
            layout.ValueDim,
            out string reason))
        {
            throw new NotSupportedException(reason);
        }
    }

    private AttentionTensor Make(TensorType type, int rows, int channels)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, new TensorShape(Pages, Layout.KeyHeads, rows, channels), Device);
        _owned.Add(tensor);
        return tensor;
    }

    private void Store(
        int first, int count, AttentionTensor key1, AttentionTensor value, AttentionTensor? key2, AttentionStream? stream)
    {
        using Feed keys1 = new(key1, Device, stream);
        using Feed values = new(value, Device, stream);
        using Feed? keys2 = key2 is null ? null : new Feed(key2, Device, stream);
        for (int sequence = first; sequence < first + count; sequence++)
        {
            _sequences.Grow(sequence, key1.Shape.Rows, stream);
        }

        _sequences.PublishLengths(stream);
        CachedThresholdKeys view = View(first, count);
        try
        {
            view.Append(keys1.Tensor, values.Tensor, keys2?.Tensor, stream);
        }
        finally
        {
            view.DisposeViews();
        }
    }

    private void CheckTensors(int batch, AttentionTensor key1, AttentionTensor value, AttentionTensor? key2, AttentionStream? stream)
    {
        CheckTensor(key1, nameof(key1));
        CheckTensor(value, nameof(value));
        TensorShape keys = new(batch, Layout.KeyHeads, key1.Shape.Rows, Layout.HeadDim);
        TensorGuard.Shape(key1, nameof(key1), keys, "[sequences, key heads, new keys, head_dim]");
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
            CheckTensor(key2, nameof(key2));
            TensorGuard.Shape(key2, nameof(key2), keys, "[sequences, key heads, new keys, head_dim]");
        }

        DeviceGuard.Queue(Device, stream, workspace: null);
    }

    private void CheckTensor(AttentionTensor tensor, string name)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        TensorGuard.Input(tensor, name, tensor.IsOnHost ? AttentionDevice.Cpu : Device);
        TensorGuard.Type(tensor, name, Layout.Type);
    }

    /// <summary>A tensor as kernels read it: itself, or a dense copy in the memory of the device.</summary>
    private sealed class Feed : IDisposable
    {
        private const int Vector = 8;  // elements of 16 bits that are read at once

        private readonly AttentionTensor? _copy;

        public Feed(AttentionTensor tensor, CudaDevice device, AttentionStream? stream)
        {
            _copy = IsReadable(tensor) ? null : tensor.To(device, stream);
            Tensor = _copy ?? tensor;
        }

        public AttentionTensor Tensor { get; }

        public void Dispose() => _copy?.Dispose();

        private static bool IsReadable(AttentionTensor tensor)
        {
            TensorStrides strides = tensor.Strides;
            return !tensor.IsOnHost && strides[3] == 1 && tensor.DevicePointer % (2 * Vector) == 0
                && strides[0] % Vector == 0 && strides[1] % Vector == 0 && strides[2] % Vector == 0;
        }
    }
}
