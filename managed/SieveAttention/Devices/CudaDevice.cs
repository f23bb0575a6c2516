using Microsoft.Extensions.Logging;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>An NVIDIA GPU, opened by <see cref="AttentionDevice.Cuda"/>.</summary>
/// <remarks>
/// Thread-safe. Streams, tensors and workspaces made from it keep the native context alive until they are disposed themselves.
/// </remarks>
public sealed class CudaDevice : AttentionDevice
{
    private readonly ContextHandle _context;

    // The handle closes only after its last child: tensors and streams may outlive this object, new work may not.
    private volatile bool _disposed;

    private CudaDevice(int ordinal, CudaDeviceInfo info, ContextHandle context) : base(AttentionDeviceKind.Cuda, $"cuda:{ordinal}")
    {
        Ordinal = ordinal;
        Info = info;
        _context = context;
    }

    /// <summary>Number of CUDA devices; 0 where CUDA is not available (<see cref="IsAvailable"/> says why).</summary>
    public static int Count => TryCount(out int count, out _) ? count : 0;

    /// <summary>CUDA number of the device.</summary>
    public int Ordinal { get; }

    /// <summary>What the device is.</summary>
    public CudaDeviceInfo Info { get; }

    /// <summary>The native context, or an exception that names this type after <see cref="AttentionDevice.Dispose()"/>.</summary>
    internal ContextHandle Context
    {
        get
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            return _context;
        }
    }

    /// <summary>Whether a CUDA device can be opened on this machine.</summary>
    /// <param name="reason">Why not: the library and the paths tried, the driver, or the missing GPU. Empty when available.</param>
    /// <returns>Whether <see cref="AttentionDevice.Cuda"/> can succeed for device 0.</returns>
    public static bool IsAvailable(out string reason) => TryCount(out _, out reason);

    /// <summary>Makes a stream, which does not wait for work on other streams.</summary>
    /// <returns>The stream; dispose it after use.</returns>
    /// <exception cref="SieveException">The device failed.</exception>
    public AttentionStream CreateStream() => new(this, StreamHandle.Create(Context));

    /// <summary>Whether the device runs an operator for these sizes.</summary>
    /// <param name="operation">The operator.</param>
    /// <param name="direction">Forward, backward or decode.</param>
    /// <param name="type">Element type of queries, keys and values.</param>
    /// <param name="headDim">Channels of queries and keys.</param>
    /// <param name="valueDim">Channels of values.</param>
    /// <param name="reason">Why not, and what the device does run. Empty when it does.</param>
    /// <returns>Whether it does.</returns>
    public bool Supports(
        AttentionOperation operation, AttentionDirection direction, TensorType type, int headDim, int valueDim, out string reason) =>
        Supports(operation, direction, KernelPath.Automatic, type, headDim, valueDim, out reason);

    /// <summary>Whether the device runs an operator for these sizes with a family of kernels.</summary>
    /// <param name="operation">The operator.</param>
    /// <param name="direction">Forward, backward or decode.</param>
    /// <param name="path">The family.</param>
    /// <param name="type">Element type of queries, keys and values.</param>
    /// <param name="headDim">Channels of queries and keys.</param>
    /// <param name="valueDim">Channels of values.</param>
    /// <param name="reason">Why not, and what the device does run. Empty when it does.</param>
    /// <returns>Whether it does.</returns>
    public unsafe bool Supports(
        AttentionOperation operation,
        AttentionDirection direction,
        KernelPath path,
        TensorType type,
        int headDim,
        int valueDim,
        out string reason)
    {
        if (NativeTensor.Dtype(type) is not { } dtype)
        {
            reason = $"Elements of type {TensorTypes.Name(type)} have no kernels on a GPU; use Float16 or BFloat16.";
            return false;
        }

        SieveSupportQuery query = new()
        {
            struct_size = (uint)sizeof(SieveSupportQuery),
            operation = (int)operation,
            direction = (int)direction,
            path = (int)path,
            dtype = (int)dtype,
            head_dim = headDim,
            value_dim = valueDim,
        };
        using HandleLease context = new(Context);
        int status = SieveNative.Support(context.Value, &query);
        if (status == (int)Interop.SieveStatus.Unsupported)
        {
            reason = NativeStatus.Reason();
            return false;
        }

        NativeStatus.Check(status, "sieve_support");
        reason = "";
        return true;
    }

    /// <inheritdoc/>
    public override string Describe() => $"{Name}: {Info}";

    internal static unsafe CudaDevice Open(int ordinal, ILoggerFactory? loggers)
    {
        NativeLoader.EnsureLoaded();
        ILogger logger = LoggerFor(loggers);
        ContextHandle context = ContextHandle.Create(ordinal, logger);
        try
        {
            SieveDeviceInfo native = new() { struct_size = (uint)sizeof(SieveDeviceInfo) };
            NativeStatus.Check(SieveNative.DeviceDescribe(ordinal, &native), "sieve_device_describe");
            CudaDeviceInfo info = new(
                NativeStatus.Text(native.name),
                native.capability_major,
                native.capability_minor,
                native.multiprocessors,
                native.memory_bytes,
                native.cache_bytes,
                native.shared_memory_bytes,
                native.driver_version);
            CudaDevice device = new(ordinal, info, context);
            string description = device.Describe();
            string library = NativeStatus.Text(SieveNative.BuildDescription());
            DeviceLog.Opened(logger, description, library);

            return device;
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    internal DeviceStorage Allocate(ulong bytes)
    {
        DeviceMemoryHandle memory = DeviceMemoryHandle.Allocate(Context, bytes);
        return new DeviceStorage(memory.DangerousGetHandle(), memory, this);
    }

    /// <summary>A dense tensor of the given elements, there for every stream when the call returns; not for repeated calls.</summary>
    internal AttentionTensor Upload<T>(T[] values, TensorShape shape)
        where T : unmanaged
    {
        using AttentionTensor host = AttentionTensor.From<T>(values, shape);
        AttentionTensor copy = host.To(this);
        AttentionStream.FromPointer(this, 0).Synchronize();
        return copy;
    }

    internal void Copy(nint target, nint source, ulong bytes, SieveCopyKind kind, AttentionStream? stream)
    {
        using HandleLease context = new(Context);
        using HandleLease queue = AttentionStream.Lease(stream, this);
        NativeStatus.Check(SieveNative.MemoryCopy(context.Value, target, source, bytes, (int)kind, queue.Value), "sieve_memory_copy");
    }

    /// <summary>Enqueues setting every byte; for tests and workspaces.</summary>
    internal void Fill(nint memory, byte value, ulong bytes, AttentionStream? stream)
    {
        using HandleLease context = new(Context);
        using HandleLease queue = AttentionStream.Lease(stream, this);
        NativeStatus.Check(SieveNative.MemoryFill(context.Value, memory, value, bytes, queue.Value), "sieve_memory_fill");
    }

    /// <summary>Enqueues matrix products without attention, a ceiling for benchmarks, and gives their floating-point operations.</summary>
    internal unsafe double RunProducts(KernelPath path, TensorType type)
    {
        double operations = 0;
        using HandleLease context = new(Context);
        int dtype = (int)(NativeTensor.Dtype(type) ?? throw Guard.OutOfRange(nameof(type), type, "Float16, BFloat16"));
        NativeStatus.Check(SieveNative.ProductsRun(context.Value, (int)path, dtype, &operations, stream: 0), "sieve_products_run");
        return operations;
    }

    private protected override void Dispose(bool disposing)
    {
        _disposed = true;
        _context.Dispose();
        base.Dispose(disposing);
    }

    private static unsafe bool TryCount(out int count, out string reason)
    {
        count = 0;
        if (!NativeLoader.TryEnsureLoaded(out string? failure))
        {
            reason = failure;
            return false;
        }

        int found = 0;
        int status = SieveNative.DeviceCount(&found);
        if (status == (int)Interop.SieveStatus.Unavailable)
        {
            reason = NativeStatus.Reason();
            return false;
        }

        NativeStatus.Check(status, "sieve_device_count");
        count = found;
        reason = found > 0 ? "" : "The driver reports no CUDA device.";
        return found > 0;
    }
}
