namespace SieveAttention.Interop;

/// <summary>Threshold differential attention in the native library. Arguments have been checked.</summary>
internal static class NativeThresholdDifferential
{
    private static unsafe NativeEntry<SieveTdaForwardArguments> ForwardEntry =>
        new("sieve_tda_forward", &SieveNative.TdaForwardWorkspace, &SieveNative.TdaForward);

    private static unsafe NativeEntry<SieveTdaBackwardArguments> BackwardEntry =>
        new("sieve_tda_backward", &SieveNative.TdaBackwardWorkspace, &SieveNative.TdaBackward);

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

    internal static unsafe void Backward(
        CudaDevice device,
        ThresholdDifferentialOptions options,
        ThresholdDifferentialInputs inputs,
        AttentionTensor? survivorTiles,
        AttentionTensor outputGradient,
        ThresholdDifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = NativeProblem.Describe(
                options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
            nint parameters = leases.AddPointer(into.Parameters);
            nint row = (nint)inputs.Query1.Shape.Heads * sizeof(float);
            SieveTdaBackwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveTdaBackwardArguments),
                screen = (int)options.Screen,
                query1 = leases.Add(inputs.Query1),
                key1 = leases.Add(inputs.Key1),
                query2 = leases.Add(inputs.Query2),
                key2 = leases.Add(inputs.Key2),
                value = leases.Add(inputs.Value),
                output_gradient = leases.Add(outputGradient),
                survivor_tiles = leases.Add(survivorTiles),
                query1_gradient = leases.Add(into.Query1),
                key1_gradient = leases.Add(into.Key1),
                query2_gradient = leases.Add(into.Query2),
                key2_gradient = leases.Add(into.Key2),
                value_gradient = leases.Add(into.Value),
                gate_gradient = leases.Add(into.Gate),
                norm_gain_gradient = leases.AddPointer(into.NormGain),
                beta_gradient = parameters,
                kappa_gradient = parameters == 0 ? 0 : parameters + row,
                lambda_gradient = parameters == 0 || inputs.Query2 is null ? 0 : parameters + (2 * row),
                beta = NativeProblem.Scalar(options.Beta),
                lambda = NativeProblem.Scalar(options.Lambda),
                kappa = (float)options.Kappa,
                power = (float)options.Power,
            };
            NativeCall.Run(device, native, arguments, BackwardEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }
}
