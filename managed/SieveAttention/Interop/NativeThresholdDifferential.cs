namespace SieveAttention.Interop;

/// <summary>Threshold differential attention in the native library. Arguments have been checked.</summary>
internal static class NativeThresholdDifferential
{
    private static unsafe NativeEntry<SieveTdaForwardArguments> ForwardEntry =>
        new("sieve_tda_forward", &SieveNative.TdaForwardWorkspace, &SieveNative.TdaForward);

    internal static unsafe void Forward(
        CudaDevice device,
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
                options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
            SieveTdaForwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveTdaForwardArguments),
                screen = (int)options.Screen,
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
                survivor_tiles = leases.Add(into.SurvivorTiles),
            };
            NativeCall.Run(device, native, arguments, ForwardEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }
}
