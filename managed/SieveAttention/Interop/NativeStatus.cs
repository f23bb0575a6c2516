using System.Runtime.InteropServices;

namespace SieveAttention.Interop;

/// <summary>The one place that turns a status of the native library into an exception, with the native message.</summary>
internal static class NativeStatus
{
    /// <summary>Throws where the status is not success. To be called on the thread of the failed call, before any other call.</summary>
    /// <param name="status">What the call returned.</param>
    /// <param name="operation">Name of the C function.</param>
    internal static void Check(int status, string operation)
    {
        if (status != (int)SieveStatus.Ok)
        {
            throw Failure(status, operation);
        }
    }

    /// <summary>The exception for a failed call, made on the thread of the call, before any other call.</summary>
    internal static Exception Failure(int status, string operation) => Translate((SieveStatus)status, operation, LastMessage());

    /// <summary>The exception for a status and the native message, which begins with the name of the C function.</summary>
    internal static Exception Translate(SieveStatus status, string operation, string message)
    {
        string text = message.Length > 0 ? message : $"{operation} returned {status} without a message.";
        return status switch
        {
            SieveStatus.InvalidArgument => new ArgumentException(text),
            SieveStatus.Unsupported => new NotSupportedException(text),
            SieveStatus.Unavailable => new PlatformNotSupportedException(text),
            _ => new SieveException((SieveAttention.SieveStatus)(int)status, operation, text),
        };
    }

    /// <summary>Message of the calling thread's last failed call.</summary>
    internal static unsafe string LastMessage() => Text(SieveNative.LastMessage());

    /// <summary>The message without the name of the C function, for callers who asked a question and got a no.</summary>
    internal static string Reason()
    {
        string message = LastMessage();
        int separator = message.IndexOf(": ", StringComparison.Ordinal);
        return separator < 0 ? message : message[(separator + 2)..];
    }

    internal static unsafe string Text(byte* utf8) => Marshal.PtrToStringUTF8((nint)utf8) ?? "";
}
