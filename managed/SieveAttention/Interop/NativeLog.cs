using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;

namespace SieveAttention.Interop;

/// <summary>Carries messages of the native library into an ILogger. Messages arrive on the thread that called the library.</summary>
internal sealed partial class NativeLog(ILogger logger)
{
    /// <summary>The least level that the logger wants; asked once, when a context is made.</summary>
    internal static SieveLogLevel LeastEnabled(ILogger logger)
    {
        for (SieveLogLevel level = SieveLogLevel.Trace; level < SieveLogLevel.None; level++)
        {
            if (logger.IsEnabled(ToLogLevel((int)level)))
            {
                return level;
            }
        }

        return SieveLogLevel.None;
    }

    internal static LogLevel ToLogLevel(int level) => (SieveLogLevel)level switch
    {
        SieveLogLevel.Trace => LogLevel.Trace,
        SieveLogLevel.Debug => LogLevel.Debug,
        SieveLogLevel.Information => LogLevel.Information,
        SieveLogLevel.Warning => LogLevel.Warning,
        SieveLogLevel.None => LogLevel.None,
        // Also a level that a newer library may add: better seen than lost.
        _ => LogLevel.Error,
    };

    /// <summary>The callback; its first argument is the GCHandle of a <see cref="NativeLog"/>.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    [SuppressMessage(
        "Design", "CA1031", Justification = "An exception that crosses into native code ends the process; a logger's failure must not.")]
    internal static unsafe void Receive(nint userData, int level, byte* message)
    {
        try
        {
            if (GCHandle.FromIntPtr(userData).Target is NativeLog log)
            {
                log.Write(ToLogLevel(level), NativeStatus.Text(message));
            }
        }
        catch (Exception)
        {
            // The logger threw. There is nobody to tell: the message was for the logger.
        }
    }

    internal void Write(LogLevel level, string message) => Message(logger, level, message);

    [LoggerMessage(EventId = 100, EventName = "Native", Message = "{Message}")]
    private static partial void Message(ILogger logger, LogLevel level, string message);
}
