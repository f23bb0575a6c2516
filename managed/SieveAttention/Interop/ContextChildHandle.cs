using System.Runtime.InteropServices;

namespace SieveAttention.Interop;

/// <summary>
/// Something made from a context, which it keeps alive: destroying it needs the context, in whatever order the two are disposed
/// or finalized.
/// </summary>
internal abstract class ContextChildHandle : SafeHandle
{
    private readonly ContextHandle? _context;

    private protected ContextChildHandle(ContextHandle context) : base(0, ownsHandle: true)
    {
        bool added = false;
        context.DangerousAddRef(ref added);
        _context = context;
    }

    /// <summary>
    /// False also for a handle of value 0, which holds its reference on the context all the same; destroying NULL is allowed.
    /// </summary>
    public sealed override bool IsInvalid => _context is null;

    /// <summary>The context, which is open as long as this handle is.</summary>
    private protected nint Context => _context!.DangerousGetHandle();

    /// <summary>Takes what a native call made, or disposes this handle and throws what the call reported.</summary>
    private protected void Adopt(int status, nint created, string operation)
    {
        SetHandle(created);
        if (status != (int)SieveStatus.Ok)
        {
            Exception failure = NativeStatus.Failure(status, operation);
            Dispose();
            throw failure;
        }
    }

    private protected abstract int Destroy();

    protected sealed override bool ReleaseHandle()
    {
        bool destroyed = Destroy() == (int)SieveStatus.Ok;
        _context!.DangerousRelease();
        return destroyed;
    }
}

/// <summary>Owns device memory.</summary>
internal sealed class DeviceMemoryHandle(ContextHandle context) : ContextChildHandle(context)
{
    internal static unsafe DeviceMemoryHandle Allocate(ContextHandle context, ulong bytes)
    {
        DeviceMemoryHandle memory = new(context);
        nint created = 0;
        memory.Adopt(SieveNative.MemoryAllocate(memory.Context, bytes, &created), created, "sieve_memory_allocate");
        return memory;
    }

    private protected override int Destroy() => SieveNative.MemoryFree(Context, handle);
}

/// <summary>Owns a stream.</summary>
internal sealed class StreamHandle(ContextHandle context) : ContextChildHandle(context)
{
    internal static unsafe StreamHandle Create(ContextHandle context)
    {
        StreamHandle stream = new(context);
        nint created = 0;
        stream.Adopt(SieveNative.StreamCreate(stream.Context, &created), created, "sieve_stream_create");
        return stream;
    }

    private protected override int Destroy() => SieveNative.StreamDestroy(Context, handle);
}

/// <summary>Owns an event.</summary>
internal sealed class EventHandle(ContextHandle context) : ContextChildHandle(context)
{
    internal static unsafe EventHandle Create(ContextHandle context)
    {
        EventHandle @event = new(context);
        nint created = 0;
        @event.Adopt(SieveNative.EventCreate(@event.Context, &created), created, "sieve_event_create");
        return @event;
    }

    private protected override int Destroy() => SieveNative.EventDestroy(Context, handle);
}
