namespace SieveAttention.Interop;

/// <summary>Differential attention, first version, in the native library. Arguments have been checked.</summary>
internal static class NativeDifferential
{
    private static unsafe NativeEntry<SieveDiffForwardArguments> ForwardEntry =>
        new("sieve_diff_forward", &SieveNative.DiffForwardWorkspace, &SieveNative.DiffForward);

    private static unsafe NativeEntry<SieveDiffBackwardArguments> BackwardEntry =>
        new("sieve_diff_backward", &SieveNative.DiffBackwardWorkspace, &SieveNative.DiffBackward);

    internal static unsafe void Forward(
        CudaDevice device,
        DifferentialOptions options,
        DeviceLambda lambda,
        DifferentialInputs inputs,
        DifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, inputs, ref leases);
            SieveDiffForwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveDiffForwardArguments),
                query1 = leases.Add(inputs.Query1),
                key1 = leases.Add(inputs.Key1),
                query2 = leases.Add(inputs.Query2),
                key2 = leases.Add(inputs.Key2),
                value = leases.Add(inputs.Value),
                output = leases.Add(into.Output),
                lse1 = leases.Add(into.LogSumExp1),
                lse2 = leases.Add(into.LogSumExp2),
                output1 = leases.Add(into.Output1),
                output2 = leases.Add(into.Output2),
                lambda = lambda.Scalar(ref leases),
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
        DifferentialOptions options,
        DeviceLambda lambda,
        DifferentialInputs inputs,
        DifferentialResult forward,
        AttentionTensor outputGradient,
        DifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, inputs, ref leases);
            SieveDiffBackwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveDiffBackwardArguments),
                query1 = leases.Add(inputs.Query1),
                key1 = leases.Add(inputs.Key1),
                query2 = leases.Add(inputs.Query2),
                key2 = leases.Add(inputs.Key2),
                value = leases.Add(inputs.Value),
                lse1 = leases.Add(forward.LogSumExp1),
                lse2 = leases.Add(forward.LogSumExp2),
                output1 = leases.Add(forward.Output1),
                output2 = leases.Add(forward.Output2),
                output_gradient = leases.Add(outputGradient),
                query1_gradient = leases.Add(into.Query1),
                key1_gradient = leases.Add(into.Key1),
                query2_gradient = leases.Add(into.Query2),
                key2_gradient = leases.Add(into.Key2),
                value_gradient = leases.Add(into.Value),
                gate_gradient = leases.Add(into.Gate),
                lambda = lambda.Scalar(ref leases),
                lambda_gradient = leases.AddPointer(into.LambdaSums),
                gain_gradient = leases.AddPointer(into.NormGain),
            };
            NativeCall.Run(device, native, arguments, BackwardEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }

    private static SieveAttentionProblem Describe(DifferentialOptions options, DifferentialInputs inputs, ref TensorLeases leases)
    {
        SieveAttentionProblem native = NativeProblem.Describe(
            options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
        native.scale = (float)(options.Scores.Scale ?? 0);
        return native;
    }
}
