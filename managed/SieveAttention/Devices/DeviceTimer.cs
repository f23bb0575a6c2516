using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>Measures device time between two points of a stream. Not thread-safe.</summary>
internal sealed class DeviceTimer : IDisposable
{
    private readonly CudaDevice _device;
    private readonly EventHandle _start;
    private readonly EventHandle _stop;

    internal DeviceTimer(CudaDevice device)
    {
        _device = device;
        _start = EventHandle.Create(device.Context);
        _stop = EventHandle.Create(device.Context);
    }

    internal void Start(AttentionStream? stream = null) => Record(_start, stream);

    internal void Stop(AttentionStream? stream = null) => Record(_stop, stream);

    /// <summary>Waits for the stop and returns the time since the start, in milliseconds.</summary>
    internal unsafe float Elapsed()
    {
        using HandleLease context = new(_device.Context);
        using HandleLease start = new(_start);
        using HandleLease stop = new(_stop);
        float milliseconds = 0;
        NativeStatus.Check(SieveNative.EventElapsed(context.Value, start.Value, stop.Value, &milliseconds), "sieve_event_elapsed");
        return milliseconds;
    }

    public void Dispose()
    {
        _start.Dispose();
        _stop.Dispose();
    }

    private void Record(EventHandle handle, AttentionStream? stream)
    {
        using HandleLease context = new(_device.Context);
        using HandleLease @event = new(handle);
        using HandleLease queue = AttentionStream.Lease(stream, _device);
        NativeStatus.Check(SieveNative.EventRecord(context.Value, @event.Value, queue.Value), "sieve_event_record");
    }
}
