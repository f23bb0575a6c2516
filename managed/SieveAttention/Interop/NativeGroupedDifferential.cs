namespace SieveAttention.Interop;

/// <summary>Differential attention, second version and grouped, in the native library. Arguments have been checked.</summary>
internal static class NativeGroupedDifferential
{
    private static unsafe NativeEntry<SieveDiffV2ForwardArguments> ForwardEntry =>
        new("sieve_diff_v2_forward", &SieveNative.DiffV2ForwardWorkspace, &SieveNative.DiffV2Forward);

    private static unsafe NativeEntry<SieveDiffV2BackwardArguments> BackwardEntry =>
        new("sieve_diff_v2_backward", &SieveNative.DiffV2BackwardWorkspace, &SieveNative.DiffV2Backward);

    internal static unsafe void Forward(
        CudaDevice device,
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, inputs, ref leases);
            SieveDiffV2ForwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveDiffV2ForwardArguments),
                signals = options.Signals,
                query = leases.Add(inputs.Query),
                key = leases.Add(inputs.Key),
                value = leases.Add(inputs.Value),
                lambda_logit = leases.Add(inputs.LambdaLogit),
                output = leases.Add(into.Output),
                lse = leases.Add(into.LogSumExp),
                outputs = leases.Add(into.HeadOutputs),
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
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult forward,
        AttentionTensor outputGradient,
        GroupedDifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, inputs, ref leases);
            SieveDiffV2BackwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveDiffV2BackwardArguments),
                signals = options.Signals,
                query = leases.Add(inputs.Query),
                key = leases.Add(inputs.Key),
                value = leases.Add(inputs.Value),
                lambda_logit = leases.Add(inputs.LambdaLogit),
                lse = leases.Add(forward.LogSumExp),
                outputs = leases.Add(forward.HeadOutputs),
                output_gradient = leases.Add(outputGradient),
                query_gradient = leases.Add(into.Query),
                key_gradient = leases.Add(into.Key),
                value_gradient = leases.Add(into.Value),
                lambda_logit_gradient = leases.Add(into.LambdaLogit),
                gate_gradient = leases.Add(into.Gate),
                gain_gradient = leases.AddPointer(into.NormGain),
            };
            NativeCall.Run(device, native, arguments, BackwardEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }

    private static SieveAttentionProblem Describe(
        GroupedDifferentialOptions options, GroupedDifferentialInputs inputs, ref TensorLeases leases)
    {
        SieveAttentionProblem native = NativeProblem.Describe(
            options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
        native.scale = (float)(options.Scores.Scale ?? 0);
        return native;
    }
}
