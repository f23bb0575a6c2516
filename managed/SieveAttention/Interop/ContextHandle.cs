using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace SieveAttention.Interop;

/// <summary>Owns a sieve_context and what its log callback needs.</summary>
internal sealed class ContextHandle() : SafeHandleZeroOrMinusOneIsInvalid(ownsHandle: true)
{
    private GCHandle _log;

    internal static unsafe ContextHandle Create(int ordinal, ILogger logger)
    {
        ContextHandle context = new();
        SieveLogLevel level = NativeLog.LeastEnabled(logger);
        if (level != SieveLogLevel.None)
        {
            context._log = GCHandle.Alloc(new NativeLog(logger));
        }

        SieveContextOptions options = new()
        {
            struct_size = (uint)sizeof(SieveContextOptions),
            device = ordinal,
            log_level = (int)level,
            log = context._log.IsAllocated ? &NativeLog.Receive : null,
            log_user_data = context._log.IsAllocated ? GCHandle.ToIntPtr(context._log) : 0,
        };
        nint created = 0;
        int status = SieveNative.ContextCreate(&options, &created);
        context.SetHandle(created);
        if (status != (int)SieveStatus.Ok)
        {
            Exception failure = NativeStatus.Failure(status, "sieve_context_create");
            context.Dispose();
            context.FreeLog();
            throw failure;
        }

        return context;
    }

    protected override bool ReleaseHandle()
    {
        int status = SieveNative.ContextDestroy(handle);
        // Only now: destroying may still log.
        FreeLog();
        return status == (int)SieveStatus.Ok;
    }

    private void FreeLog()
    {
        if (_log.IsAllocated)
        {
            _log.Free();
        }
    }
}
