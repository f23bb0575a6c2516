using System.Runtime.InteropServices;

namespace SieveAttention.Interop;

/// <summary>
/// Keeps a handle open while its raw value is in use by a native call, even if another thread disposes it meanwhile.
/// </summary>
internal readonly ref struct HandleLease : IDisposable
{
    private readonly SafeHandle? _handle;

    internal HandleLease(SafeHandle handle)
    {
        bool added = false;
        handle.DangerousAddRef(ref added);
        _handle = handle;
        Value = handle.DangerousGetHandle();
    }

    /// <summary>A value that nobody here owns, such as the stream of another library.</summary>
    internal HandleLease(nint foreign)
    {
        Value = foreign;
    }

    internal nint Value { get; }

    public void Dispose() => _handle?.DangerousRelease();
}
