using System.Diagnostics.CodeAnalysis;

namespace SieveAttention;

/// <summary>
/// A view of memory as a [batch, heads, rows, channels] tensor: storage, offset, shape and strides. The storage is host memory
/// (the caller's <see cref="Memory{T}"/>, not copied, or an own array), owned device memory, or a foreign device pointer.
/// </summary>
/// <remarks>
/// Strides are in elements, at least 0, and may describe any layout for inputs (0 repeats an element); outputs need strides
/// without overlap. Views made by <see cref="Slice"/> and <see cref="Permute"/> share the storage and keep it alive: owned device
/// memory is freed when the last view is disposed, after the device has finished the work that uses it. Memory of the caller
/// and foreign pointers are never freed and must outlive the views and the work enqueued on them. A view is immutable and may
/// be used from several threads; who writes elements while others read them has to order that.
/// </remarks>
public sealed class AttentionTensor : IDisposable
{
    private readonly TensorStorage _storage;
    private readonly long _offset;
    private int _disposed;

    /// <summary>Takes over one reference of the storage.</summary>
    private AttentionTensor(TensorStorage storage, long offset, TensorType type, TensorShape shape, TensorStrides strides)
    {
        _storage = storage;
        _offset = offset;
        Type = type;
        Shape = shape;
        Strides = strides;
    }

    /// <summary>Type of the elements.</summary>
    public TensorType Type { get; }

    /// <summary>Sizes: [batch, heads, rows, channels].</summary>
    public TensorShape Shape { get; }

    /// <summary>Elements from one index to the next, of each dimension.</summary>
    public TensorStrides Strides { get; }

    /// <summary>The CUDA device whose memory this is; null for host memory.</summary>
    public AttentionDevice? Device => _storage.Device;

    /// <summary>Whether the elements are in host memory.</summary>
    public bool IsOnHost => _storage.Device is null;

    /// <summary>Whether the tensor cannot be an output.</summary>
    public bool IsReadOnly => _storage.IsReadOnly;

    /// <summary>Whether the elements lie densely in row-major order.</summary>
    public bool IsContiguous => Strides.IsContiguous(Shape);

    /// <summary>Address of the first element in device memory.</summary>
    internal nint DevicePointer
    {
        get
        {
            ThrowIfDisposed();
            return ((DeviceStorage)_storage).Pointer + (nint)(_offset * TensorTypes.Size(Type));
        }
    }

    /// <summary>Offset of the view's first element in <see cref="Storage"/>, in elements.</summary>
    internal long Offset => _offset;

    internal TensorStorage Storage
    {
        get
        {
            ThrowIfDisposed();
            return _storage;
        }
    }

    /// <summary>Views host memory without copying it.</summary>
    /// <typeparam name="T">double, float, Half, BFloat16 or int.</typeparam>
    /// <param name="memory">The elements; must stay valid and in place as long as the view is used.</param>
    /// <param name="shape">Sizes, each at least 1.</param>
    /// <param name="strides">Strides in elements; dense when absent.</param>
    /// <returns>The view.</returns>
    /// <exception cref="ArgumentException">A size or stride is out of range, or the memory is too short for them.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type.</exception>
    public static AttentionTensor From<T>(Memory<T> memory, TensorShape shape, TensorStrides? strides = null)
        where T : unmanaged
    {
        return OnHost(new HostStorage<T>(memory, isReadOnly: false), shape, strides);
    }

    /// <summary>Views host memory that must not be written: the tensor is refused as an output.</summary>
    /// <typeparam name="T">double, float, Half, BFloat16 or int.</typeparam>
    /// <param name="memory">The elements; must stay valid and in place as long as the view is used.</param>
    /// <param name="shape">Sizes, each at least 1.</param>
    /// <param name="strides">Strides in elements; dense when absent.</param>
    /// <returns>The view.</returns>
    /// <exception cref="ArgumentException">A size or stride is out of range, or the memory is too short for them.</exception>
    /// <exception cref="NotSupportedException"><typeparamref name="T"/> is not an element type.</exception>
    public static AttentionTensor FromReadOnly<T>(ReadOnlyMemory<T> memory, TensorShape shape, TensorStrides? strides = null)
        where T : unmanaged
    {
        return OnHost(HostStorage<T>.ReadOnly(memory), shape, strides);
    }

    /// <summary>Allocates a dense tensor: zeros in host memory, or undefined contents in the memory of a CUDA device.</summary>
    /// <param name="type">Type of the elements.</param>
    /// <param name="shape">Sizes, each at least 1.</param>
    /// <param name="device">Where; host memory when absent or not a CUDA device.</param>
    /// <returns>The tensor, which owns its memory.</returns>
    /// <exception cref="ArgumentException">A size is less than 1, or the tensor is too large for host memory.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public static AttentionTensor Allocate(TensorType type, TensorShape shape, AttentionDevice? device = null)
    {
        CheckShape(shape);
        if (device is CudaDevice cuda)
        {
            long bytes = checked(shape.Count * TensorTypes.Size(type));
            return new AttentionTensor(cuda.Allocate((ulong)bytes), 0, type, shape, TensorStrides.Contiguous(shape));
        }

        if (shape.Count > Array.MaxLength)
        {
            throw new ArgumentException(
                $"A tensor of shape {shape} has {shape.Count} elements; one in host memory has at most {Array.MaxLength}.", nameof(shape));
        }

        TensorStorage storage = type switch
        {
            TensorType.Float64 => new HostStorage<double>(new double[shape.Count], isReadOnly: false),
            TensorType.Float32 => new HostStorage<float>(new float[shape.Count], isReadOnly: false),
            TensorType.Float16 => new HostStorage<Half>(new Half[shape.Count], isReadOnly: false),
            TensorType.BFloat16 => new HostStorage<BFloat16>(new BFloat16[shape.Count], isReadOnly: false),
            _ => new HostStorage<int>(new int[shape.Count], isReadOnly: false),
        };
        return new AttentionTensor(storage, 0, type, shape, TensorStrides.Contiguous(shape));
    }

    /// <summary>Views device memory that somebody else owns, for example a tensor of another library.</summary>
    /// <param name="pointer">Address of the first element, not 0.</param>
    /// <param name="device">The CUDA device that owns the memory.</param>
    /// <param name="type">Type of the elements.</param>
    /// <param name="shape">Sizes, each at least 1.</param>
    /// <param name="strides">Strides in elements; dense when absent.</param>
    /// <returns>The view; disposing it does not free the memory.</returns>
    /// <exception cref="ArgumentException">The pointer is 0, the device is no CUDA device, or a size or stride is out of range.</exception>
    [SuppressMessage("Naming", "CA1720", Justification = "The argument is an address, not a value of a type.")]
    public static AttentionTensor FromDevicePointer(
        nint pointer, AttentionDevice device, TensorType type, TensorShape shape, TensorStrides? strides = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        if (pointer == 0)
        {
            throw new ArgumentException("The device pointer is 0; it has to be the address of the first element.", nameof(pointer));
        }

        if (device is not CudaDevice cuda)
        {
            throw new ArgumentException($"Device memory belongs to a CUDA device, not to '{device.Name}'.", nameof(device));
        }

        if (!Enum.IsDefined(type))
        {
            throw new ArgumentOutOfRangeException(nameof(type), type, "The tensor type is not defined.");
        }

        TensorStrides checkedStrides = CheckLayout(shape, strides);
        return new AttentionTensor(new DeviceStorage(pointer, owner: null, cuda), 0, type, shape, checkedStrides);
    }

    /// <summary>Views a part of one dimension.</summary>
    /// <param name="dimension">0 = batch, 1 = heads, 2 = rows, 3 = channels.</param>
    /// <param name="start">First index of the part.</param>
    /// <param name="length">Indices in the part, at least 1.</param>
    /// <returns>A view of the same storage.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The dimension does not exist or the part leaves it.</exception>
    public AttentionTensor Slice(int dimension, int start, int length)
    {
        int size = Shape[dimension];
        if (start < 0 || start >= size)
        {
            throw new ArgumentOutOfRangeException(
                nameof(start), start, $"A slice of dimension {dimension} of {Shape} starts at 0 to {size - 1}.");
        }

        if (length < 1 || length > size - start)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length), length, $"A slice of dimension {dimension} of {Shape} from {start} has 1 to {size - start} indices.");
        }

        return View(_offset + (start * Strides[dimension]), Shape.With(dimension, length), Strides);
    }

    /// <summary>
    /// Reorders the dimensions. Each argument names the present dimension that takes that place: a sequence-first
    /// [batch, rows, heads, channels] view becomes head-first by <c>Permute(0, 2, 1, 3)</c>.
    /// </summary>
    /// <param name="batch">Present dimension that becomes the batch.</param>
    /// <param name="heads">Present dimension that becomes the heads.</param>
    /// <param name="rows">Present dimension that becomes the rows.</param>
    /// <param name="channels">Present dimension that becomes the channels.</param>
    /// <returns>A view of the same storage.</returns>
    /// <exception cref="ArgumentException">The arguments are not 0, 1, 2 and 3 in some order.</exception>
    public AttentionTensor Permute(int batch, int heads, int rows, int channels)
    {
        Span<int> sorted = [batch, heads, rows, channels];
        sorted.Sort();
        if (sorted is not [0, 1, 2, 3])
        {
            throw new ArgumentException(
                $"The order ({batch}, {heads}, {rows}, {channels}) is not a permutation; it has to hold 0, 1, 2 and 3 once each.",
                nameof(batch));
        }

        return View(
            _offset,
            new TensorShape(Shape[batch], Shape[heads], Shape[rows], Shape[channels]),
            new TensorStrides(Strides[batch], Strides[heads], Strides[rows], Strides[channels]));
    }

    /// <summary>The elements of a dense host tensor.</summary>
    /// <typeparam name="T">The element type of the tensor.</typeparam>
    /// <returns>The elements in row-major order, not copied.</returns>
    /// <exception cref="InvalidOperationException">The tensor is in device memory, strided, read-only or of another type.</exception>
    public Span<T> AsSpan<T>()
        where T : unmanaged
    {
        return AsMemory<T>().Span;
    }

    /// <summary>The elements of a dense host tensor.</summary>
    /// <typeparam name="T">The element type of the tensor.</typeparam>
    /// <returns>The elements in row-major order, not copied.</returns>
    /// <exception cref="InvalidOperationException">The tensor is in device memory, strided, read-only or of another type.</exception>
    public Memory<T> AsMemory<T>()
        where T : unmanaged
    {
        if (IsReadOnly)
        {
            throw new InvalidOperationException($"The tensor {this} is read-only; use {nameof(AsReadOnlyMemory)}.");
        }

        return Dense<T>();
    }

    /// <summary>The elements of a dense host tensor, to read.</summary>
    /// <typeparam name="T">The element type of the tensor.</typeparam>
    /// <returns>The elements in row-major order, not copied.</returns>
    /// <exception cref="InvalidOperationException">The tensor is in device memory, strided or of another type.</exception>
    public ReadOnlyMemory<T> AsReadOnlyMemory<T>()
        where T : unmanaged
    {
        return Dense<T>();
    }

    /// <summary>Copies to a new dense tensor in the memory of a device (host memory for devices other than CUDA).</summary>
    /// <param name="device">The target.</param>
    /// <param name="stream">See <see cref="CopyTo"/>.</param>
    /// <returns>A new tensor, also where this one is on that device already.</returns>
    /// <exception cref="SieveException">The device failed or has not enough memory.</exception>
    public AttentionTensor To(AttentionDevice device, AttentionStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Copied(device, stream);
    }

    /// <summary>Copies to a new dense tensor in host memory.</summary>
    /// <param name="stream">See <see cref="CopyTo"/>; the stream on which the elements were computed.</param>
    /// <returns>A new tensor, also where this one is in host memory already.</returns>
    /// <exception cref="SieveException">The device failed; also an error of earlier work on the stream.</exception>
    public AttentionTensor ToHost(AttentionStream? stream = null) => Copied(null, stream);

    /// <summary>
    /// Copies the elements to a tensor of the same type and shape; strides may differ, elements between those of a strided
    /// target are left alone. A copy that involves device memory is ordered on the stream, one transfer for each run of
    /// elements that is dense in both tensors; with host memory on either side the call returns when that memory has been
    /// read or written.
    /// </summary>
    /// <param name="target">The tensor to write.</param>
    /// <param name="stream">The stream for device memory; the legacy default stream when absent. Ignored between host tensors.</param>
    /// <exception cref="ArgumentException">Type or shape differ, or the target is read-only or overlaps itself.</exception>
    /// <exception cref="NotSupportedException">The tensors are in the memory of two different devices.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void CopyTo(AttentionTensor target, AttentionStream? stream = null)
    {
        ArgumentNullException.ThrowIfNull(target);
        ThrowIfDisposed();
        target.ThrowIfDisposed();
        if (target.Type != Type || target.Shape != Shape)
        {
            throw new ArgumentException($"The target is {target}; it has to be {TensorTypes.Name(Type)} {Shape}.", nameof(target));
        }

        target.ThrowIfNotWritable(nameof(target));
        TensorCopy.Run(this, target, stream);
    }

    /// <summary>Gives up this view; the last view of owned memory frees it. Further calls do nothing.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _storage.Release();
        }
    }

    /// <summary>Describes type, shape and place, for messages: "BFloat16 [1, 6, 2048, 64] on cuda:0".</summary>
    /// <returns>The text.</returns>
    public override string ToString() => $"{TensorTypes.Name(Type)} {Shape} {(Device is { } device ? $"on {device.Name}" : "on host")}";

    internal void ThrowIfDisposed() =>
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);

    /// <summary>Refuses a tensor as an output.</summary>
    internal void ThrowIfNotWritable(string name)
    {
        if (IsReadOnly)
        {
            throw new ArgumentException($"{name} is read-only ({this}); an output has to be writable.", name);
        }

        if (Strides.Overlaps(Shape))
        {
            throw new ArgumentException(
                $"{name} has shape {Shape} and strides {Strides}, in which elements share memory; an output has an own place for each.",
                name);
        }
    }

    /// <summary>The elements from the first to the last of a host tensor whose type is known to be T.</summary>
    internal ReadOnlySpan<T> HostElements<T>()
        where T : unmanaged
    {
        return WritableHostElements<T>();
    }

    /// <summary>As <see cref="HostElements"/>, for outputs that have been checked to be writable.</summary>
    internal Span<T> WritableHostElements<T>()
        where T : unmanaged
    {
        return HostMemory<T>().Span;
    }

    private static AttentionTensor OnHost<T>(HostStorage<T> storage, TensorShape shape, TensorStrides? strides)
        where T : unmanaged
    {
        TensorStrides checkedStrides = CheckLayout(shape, strides);
        long needed = checkedStrides.Extent(shape);
        if (needed > storage.Memory.Length)
        {
            throw new ArgumentException(
                $"The memory holds {storage.Memory.Length} elements; shape {shape} with strides {checkedStrides} needs {needed}.",
                nameof(shape));
        }

        return new AttentionTensor(storage, 0, TensorTypes.Of<T>(), shape, checkedStrides);
    }

    private static TensorStrides CheckLayout(TensorShape shape, TensorStrides? strides)
    {
        CheckShape(shape);
        TensorStrides result = strides ?? TensorStrides.Contiguous(shape);
        for (int dimension = 0; dimension < 4; dimension++)
        {
            if (result[dimension] < 0)
            {
                throw new ArgumentException($"The strides are {result}; each has to be at least 0.", nameof(strides));
            }
        }

        try
        {
            _ = result.Extent(shape);
        }
        catch (OverflowException)
        {
            throw new ArgumentException($"Shape {shape} with strides {result} spans more elements than can be addressed.", nameof(strides));
        }

        return result;
    }

    private static void CheckShape(TensorShape shape)
    {
        for (int dimension = 0; dimension < 4; dimension++)
        {
            if (shape[dimension] < 1)
            {
                throw new ArgumentException($"The shape is {shape}; each size has to be at least 1.", nameof(shape));
            }
        }
    }

    private AttentionTensor View(long offset, TensorShape shape, TensorStrides strides)
    {
        ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0 || !_storage.TryRetain(), this);
        return new AttentionTensor(_storage, offset, Type, shape, strides);
    }

    private AttentionTensor Copied(AttentionDevice? device, AttentionStream? stream)
    {
        ThrowIfDisposed();
        AttentionTensor copy = Allocate(Type, Shape, device);
        try
        {
            CopyTo(copy, stream);
            return copy;
        }
        catch
        {
            copy.Dispose();
            throw;
        }
    }

    private Memory<T> Dense<T>()
        where T : unmanaged
    {
        ThrowIfDisposed();
        if (!IsOnHost)
        {
            throw new InvalidOperationException($"The tensor is {this}; only host memory has spans. Use {nameof(ToHost)} first.");
        }

        if (TensorTypes.Of<T>() != Type)
        {
            throw new InvalidOperationException(
                $"The tensor is {this}; its elements cannot be read as {TensorTypes.Name(TensorTypes.Of<T>())}.");
        }

        if (!IsContiguous)
        {
            throw new InvalidOperationException(
                $"The tensor is {this} with strides {Strides}; only a dense tensor has spans. Use {nameof(ToHost)} for a dense copy.");
        }

        return HostMemory<T>();
    }

    private Memory<T> HostMemory<T>()
        where T : unmanaged
    {
        return ((HostStorage<T>)Storage).Memory.Slice((int)_offset, (int)Strides.Extent(Shape));
    }
}
