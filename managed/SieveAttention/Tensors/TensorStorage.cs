using System.Buffers;
using System.Runtime.InteropServices;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>
/// The memory behind one or more views. Every view holds one reference; the last one gives owned memory back. There is no
/// finalizer: memory that nobody disposed is given back by the SafeHandle that owns it.
/// </summary>
internal abstract class TensorStorage
{
    private int _references = 1;

    /// <summary>The device whose memory this is; null for host memory.</summary>
    internal virtual CudaDevice? Device => null;

    internal virtual bool IsReadOnly => false;

    /// <summary>Adds a reference; false where the last one is gone already.</summary>
    internal bool TryRetain()
    {
        int references = Volatile.Read(ref _references);
        while (references > 0)
        {
            int found = Interlocked.CompareExchange(ref _references, references + 1, references);
            if (found == references)
            {
                return true;
            }

            references = found;
        }

        return false;
    }

    internal void Release()
    {
        if (Interlocked.Decrement(ref _references) == 0)
        {
            Free();
        }
    }

    protected virtual void Free()
    {
    }
}

/// <summary>Host memory of unknown element type.</summary>
internal abstract class HostStorage : TensorStorage
{
    internal abstract MemoryHandle Pin();
}

/// <summary>Host memory: the caller's, not copied, or an array of our own.</summary>
internal sealed class HostStorage<T>(Memory<T> memory, bool isReadOnly) : HostStorage
    where T : unmanaged
{
    internal Memory<T> Memory => memory;

    internal override bool IsReadOnly => isReadOnly;

    internal static HostStorage<T> ReadOnly(ReadOnlyMemory<T> memory) => new(MemoryMarshal.AsMemory(memory), isReadOnly: true);

    internal override MemoryHandle Pin() => memory.Pin();
}

/// <summary>Device memory: owned, or a foreign pointer where <paramref name="owner"/> is null.</summary>
internal sealed class DeviceStorage(nint pointer, DeviceMemoryHandle? owner, CudaDevice device) : TensorStorage
{
    internal nint Pointer => pointer;

    internal override CudaDevice Device => device;

    protected override void Free() => owner?.Dispose();
}
