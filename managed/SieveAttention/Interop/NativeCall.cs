namespace SieveAttention.Interop;

/// <summary>The two functions of one direction of an operator, and the name of the one that enqueues.</summary>
internal readonly unsafe struct NativeEntry<TArguments>(
    string name,
    delegate*<nint, SieveAttentionProblem*, TArguments*, ulong*, int> workspace,
    delegate*<nint, SieveAttentionProblem*, TArguments*, nint, ulong, nint, int> launch)
    where TArguments : unmanaged
{
    internal string Name => name;

    internal int Workspace(nint context, SieveAttentionProblem* problem, TArguments* arguments, ulong* bytes) =>
        workspace(context, problem, arguments, bytes);

    internal int Launch(
        nint context, SieveAttentionProblem* problem, TArguments* arguments, nint memory, ulong bytes, nint stream) =>
        launch(context, problem, arguments, memory, bytes, stream);
}

/// <summary>What every call of the native library does once its structures are filled: workspace, stream, launch, status.</summary>
internal static class NativeCall
{
    /// <summary>
    /// Enqueues a call. Without the caller's workspace a needed one is made for this call; freeing it waits for the call's work.
    /// </summary>
    internal static unsafe void Run<TArguments>(
        CudaDevice device,
        SieveAttentionProblem problem,
        TArguments arguments,
        in NativeEntry<TArguments> entry,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
        where TArguments : unmanaged
    {
        using HandleLease context = new(device.Context);
        using HandleLease queue = AttentionStream.Lease(stream, device);
        ulong bytes = 0;
        int status = entry.Workspace(context.Value, &problem, &arguments, &bytes);
        if (status != (int)SieveStatus.Ok)
        {
            throw NativeStatus.Failure(status, $"{entry.Name}_workspace");
        }

        using DeviceWorkspace? temporary = workspace is null && bytes > 0 ? new DeviceWorkspace(device) : null;
        nint memory = (workspace ?? temporary)?.Pointer(bytes) ?? 0;
        NativeStatus.Check(entry.Launch(context.Value, &problem, &arguments, memory, bytes, queue.Value), entry.Name);
    }
}
