namespace SieveAttention.Interop;

/// <summary>Threshold differential attention in the native library. Arguments have been checked.</summary>
internal static class NativeThresholdDifferential
{
    internal static unsafe void Forward(
        CudaDevice device,
        in AttentionProblem problem,
        ThresholdDifferentialOptions options,
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = NativeProblem.Describe(
                problem, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
            SieveTdaForwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveTdaForwardArguments),
                query1 = leases.Add(inputs.Query1),
                key1 = leases.Add(inputs.Key1),
                query2 = leases.Add(inputs.Query2),
                key2 = leases.Add(inputs.Key2),
                value = leases.Add(inputs.Value),
                output = leases.Add(into.Output),
                survivors1 = leases.Add(into.Survivors1),
                survivors2 = leases.Add(into.Survivors2),
                beta = NativeProblem.Scalar(options.Beta),
                lambda = NativeProblem.Scalar(options.Lambda),
                kappa = (float)options.Kappa,
                power = (float)options.Power,
            };
            using HandleLease context = new(device.Context);
            using HandleLease queue = AttentionStream.Lease(stream, device);
            ulong bytes = 0;
            NativeStatus.Check(
                SieveNative.TdaForwardWorkspace(context.Value, &native, &arguments, &bytes), "sieve_tda_forward_workspace");
            // Without the caller's workspace one is made for this call; freeing it waits for the call's work.
            using DeviceWorkspace? temporary = workspace is null && bytes > 0 ? new DeviceWorkspace(device) : null;
            nint memory = (workspace ?? temporary)?.Pointer(bytes) ?? 0;
            NativeStatus.Check(
                SieveNative.TdaForward(context.Value, &native, &arguments, memory, bytes, queue.Value), "sieve_tda_forward");
        }
        finally
        {
            leases.Dispose();
        }
    }
}
