using System.Diagnostics.CodeAnalysis;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>A CUDA stream: work given to it runs in order. Owned, or the stream of another library.</summary>
/// <remarks>
/// May be used from several threads, which then decide the order themselves. Without a stream, calls use the legacy default
/// stream; streams made by <see cref="CudaDevice.CreateStream"/> do not wait for it, so read results on the stream that made them.
/// </remarks>
[SuppressMessage("Naming", "CA1711", Justification = "The CUDA term.")]
public sealed class AttentionStream : IDisposable
{
    private readonly StreamHandle? _owned;
    private readonly nint _foreign;
    private int _disposed;

    internal AttentionStream(CudaDevice device, StreamHandle owned)
    {
        Device = device;
        _owned = owned;
    }

    private AttentionStream(CudaDevice device, nint foreign)
    {
        Device = device;
        _foreign = foreign;
    }

    /// <summary>The device that runs the work.</summary>
    public CudaDevice Device { get; }

    /// <summary>Uses the stream of another library, which stays the owner.</summary>
    /// <param name="device">The device of the stream.</param>
    /// <param name="stream">The cudaStream_t; 0 is the legacy default stream.</param>
    /// <returns>The stream.</returns>
    public static AttentionStream FromPointer(CudaDevice device, nint stream)
    {
        ArgumentNullException.ThrowIfNull(device);
        return new AttentionStream(device, stream);
    }

    /// <summary>Waits until all work given to the stream has run.</summary>
    /// <exception cref="SieveException">That work, or the device, failed.</exception>
    public void Synchronize()
    {
        using HandleLease context = new(Device.Context);
        using HandleLease stream = Lease(this, Device);
        NativeStatus.Check(SieveNative.StreamSynchronize(context.Value, stream.Value), "sieve_stream_synchronize");
    }

    /// <summary>Destroys an owned stream; work given to it still completes.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _owned?.Dispose();
        }
    }

    /// <summary>The raw stream for one native call on a device; absent = the legacy default stream.</summary>
    internal static HandleLease Lease(AttentionStream? stream, CudaDevice device)
    {
        if (stream is null)
        {
            return new HandleLease(foreign: 0);
        }

        ObjectDisposedException.ThrowIf(Volatile.Read(ref stream._disposed) != 0, stream);
        if (stream.Device.Ordinal != device.Ordinal)
        {
            throw new ArgumentException($"The stream belongs to {stream.Device.Name}; the call runs on {device.Name}.", nameof(stream));
        }

        return stream._owned is { } owned ? new HandleLease(owned) : new HandleLease(stream._foreign);
    }
}
