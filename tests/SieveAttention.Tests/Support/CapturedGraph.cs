using System.Runtime.InteropServices;
using NUnit.Framework;
using SieveAttention.Interop;

namespace SieveAttention.Tests.Support;

/// <summary>
/// A CUDA graph of what was enqueued on a stream, by the driver that is there anyway: capturing is the caller's business, the library only
/// has to bear it. In the capture mode used here an allocation or a synchronization by the same thread ends the capture with an error.
/// </summary>
internal sealed unsafe class CapturedGraph : IDisposable
{
    private const int ThreadLocal = 1;

    private static readonly Lazy<nint> s_driver = new(() => NativeLibrary.Load("libcuda.so.1"));

    private readonly AttentionStream _stream;
    private readonly nint _graph;
    private readonly nint _executable;

    private CapturedGraph(AttentionStream stream, nint graph, nint executable)
    {
        _stream = stream;
        _graph = graph;
        _executable = executable;
    }

    /// <summary>Captures what the work enqueues on the stream, a created one.</summary>
    public static CapturedGraph Of(AttentionStream stream, Action work)
    {
        using HandleLease queue = AttentionStream.Lease(stream, stream.Device);
        Check(((delegate* unmanaged<nint, int, int>)Function("cuStreamBeginCapture_v2"))(queue.Value, ThreadLocal), "begin capture");
        nint graph = 0;
        try
        {
            work();
        }
        finally
        {
            Check(((delegate* unmanaged<nint, nint*, int>)Function("cuStreamEndCapture"))(queue.Value, &graph), "end capture");
        }

        nint executable;
        Check(((delegate* unmanaged<nint*, nint, ulong, int>)Function("cuGraphInstantiateWithFlags"))(&executable, graph, 0), "instantiate");
        return new CapturedGraph(stream, graph, executable);
    }

    /// <summary>Enqueues the work once more, with what its memory holds by then.</summary>
    public void Replay()
    {
        using HandleLease queue = AttentionStream.Lease(_stream, _stream.Device);
        Check(((delegate* unmanaged<nint, nint, int>)Function("cuGraphLaunch"))(_executable, queue.Value), "launch");
    }

    public void Dispose()
    {
        ((delegate* unmanaged<nint, int>)Function("cuGraphExecDestroy"))(_executable);
        ((delegate* unmanaged<nint, int>)Function("cuGraphDestroy"))(_graph);
    }

    private static void* Function(string name) => (void*)NativeLibrary.GetExport(s_driver.Value, name);

    private static void Check(int result, string what) => Assert.That(result, Is.Zero, $"CUresult of graph {what}");
}
