namespace SieveAttention;

/// <summary>
/// Scratch memory of a CUDA device that grows to the largest need and is then reused, so that repeated calls allocate nothing.
/// </summary>
/// <remarks>
/// Calls that share a workspace must be ordered among each other: use one workspace for each stream. Not thread-safe. Growing
/// waits for the work that uses the old memory.
/// </remarks>
public sealed class DeviceWorkspace : IDisposable
{
    private readonly CudaDevice _device;
    private DeviceStorage? _storage;
    private bool _disposed;

    /// <summary>Makes an empty workspace.</summary>
    /// <param name="device">The device.</param>
    public DeviceWorkspace(CudaDevice device)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
    }

    /// <summary>Present size in bytes.</summary>
    public ulong Bytes { get; private set; }

    /// <summary>The device whose memory this is.</summary>
    public CudaDevice Device => _device;

    /// <summary>Grows to a size, to keep the allocation out of a later call.</summary>
    /// <param name="bytes">Least size in bytes.</param>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public void Reserve(ulong bytes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (bytes <= Bytes)
        {
            return;
        }

        // The old memory first: both at once may not fit.
        _storage?.Release();
        _storage = null;
        Bytes = 0;
        _storage = _device.Allocate(bytes);
        Bytes = bytes;
    }

    /// <summary>Gives the memory back, after the work that uses it.</summary>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _storage?.Release();
            _storage = null;
            Bytes = 0;
        }
    }

    /// <summary>Address of at least that many bytes; 0 where none are needed.</summary>
    internal nint Pointer(ulong bytes)
    {
        Reserve(bytes);
        return bytes == 0 ? 0 : _storage!.Pointer;
    }
}
