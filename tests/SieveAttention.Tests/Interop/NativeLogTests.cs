using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using NUnit.Framework;
using SieveAttention.Interop;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Interop;

/// <summary>The callback that the native library calls, called here as it does: by function pointer.</summary>
internal sealed class NativeLogTests
{
    [TestCase(0, LogLevel.Trace)]
    [TestCase(1, LogLevel.Debug)]
    [TestCase(2, LogLevel.Information)]
    [TestCase(3, LogLevel.Warning)]
    [TestCase(4, LogLevel.Error)]
    [TestCase(17, LogLevel.Error)]
    public void Messages_arrive_in_the_callers_logger_with_their_level(int level, LogLevel expected)
    {
        using RecordingLogger logger = new();
        Send(logger, level, "kernel for head_dim 64 – größer als erwartet");
        Assert.That(logger.Entries, Is.EqualTo(new[] { (expected, "kernel for head_dim 64 – größer als erwartet") }));
    }

    [Test]
    public void A_logger_that_throws_does_not_reach_native_code()
    {
        using RecordingLogger logger = new() { Failure = new InvalidOperationException("disk full") };
        Assert.That(() => Send(logger, 3, "message"), Throws.Nothing);
    }

    [TestCase(LogLevel.Trace, "Trace")]
    [TestCase(LogLevel.Information, "Information")]
    [TestCase(LogLevel.Error, "Error")]
    [TestCase(LogLevel.None, "None")]
    public void The_library_is_asked_only_for_levels_that_the_logger_wants(LogLevel least, string expected)
    {
        using RecordingLogger logger = new(least);
        Assert.That(NativeLog.LeastEnabled(logger).ToString(), Is.EqualTo(expected));
    }

    private static unsafe void Send(ILogger logger, int level, string message)
    {
        delegate* unmanaged[Cdecl]<nint, int, byte*, void> callback = &NativeLog.Receive;
        GCHandle handle = GCHandle.Alloc(new NativeLog(logger));
        nint text = Marshal.StringToCoTaskMemUTF8(message);
        try
        {
            callback(GCHandle.ToIntPtr(handle), level, (byte*)text);
        }
        finally
        {
            Marshal.FreeCoTaskMem(text);
            handle.Free();
        }
    }
}
