namespace SieveAttention.Interop;

/// <summary>Softmax attention in the native library. Arguments have been checked.</summary>
internal static class NativeSoftmax
{
    private static unsafe NativeEntry<SieveSoftmaxForwardArguments> ForwardEntry =>
        new("sieve_softmax_forward", &SieveNative.SoftmaxForwardWorkspace, &SieveNative.SoftmaxForward);

    private static unsafe NativeEntry<SieveSoftmaxBackwardArguments> BackwardEntry =>
        new("sieve_softmax_backward", &SieveNative.SoftmaxBackwardWorkspace, &SieveNative.SoftmaxBackward);

    private static unsafe NativeEntry<SieveSoftmaxDecodeArguments> DecodeEntry =>
        new("sieve_softmax_decode", &SieveNative.SoftmaxDecodeWorkspace, &SieveNative.SoftmaxDecode);

    internal static unsafe void Forward(
        CudaDevice device,
        SoftmaxOptions options,
        NativeRowFactor factor,
        AttentionInputs inputs,
        DeviceStarts? starts,
        SoftmaxResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, factor, inputs, starts, ref leases);
            SieveSoftmaxForwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveSoftmaxForwardArguments),
                query = leases.Add(inputs.Query),
                key = leases.Add(inputs.Key),
                value = leases.Add(inputs.Value),
                output = leases.Add(into.Output),
                lse = leases.Add(into.LogSumExp),
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
        SoftmaxOptions options,
        NativeRowFactor factor,
        AttentionInputs inputs,
        DeviceStarts? starts,
        SoftmaxResult forward,
        AttentionTensor outputGradient,
        AttentionGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = Describe(options, factor, inputs, starts, ref leases);
            SieveSoftmaxBackwardArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveSoftmaxBackwardArguments),
                query = leases.Add(inputs.Query),
                key = leases.Add(inputs.Key),
                value = leases.Add(inputs.Value),
                output = leases.Add(forward.Output),
                lse = leases.Add(forward.LogSumExp),
                output_gradient = leases.Add(outputGradient),
                query_gradient = leases.Add(into.Query),
                key_gradient = leases.Add(into.Key),
                value_gradient = leases.Add(into.Value),
                row_factor_gradient = leases.Add(into.RowFactor?.Rows),
                gate_gradient = leases.Add(into.Gate),
                row_first_gradient = leases.AddPointer(into.RowFactor?.HeadValues),
                row_second_gradient = leases.AddPointer(into.RowFactor?.HeadExponents),
            };
            NativeCall.Run(device, native, arguments, BackwardEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }

    internal static unsafe void Decode(
        CudaDevice device,
        SoftmaxOptions options,
        NativeRowFactor factor,
        DecodeInputs inputs,
        CachedKeys cache,
        SoftmaxResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveAttentionProblem native = NativeProblem.Describe(
                options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
            NativeProblem.AddScores(ref native, options.Scores, factor, inputs.RowFactors, ref leases);
            NativeProblem.AddSequences(ref native, starts: null, cache.Lengths, ref leases);
            SieveSoftmaxDecodeArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveSoftmaxDecodeArguments),
                splits = options.Kernels.DecodeSplits,
                query = leases.Add(inputs.Query),
                key = leases.Add(cache.Key),
                value = leases.Add(cache.Value),
                output = leases.Add(into.Output),
                lse = leases.Add(into.LogSumExp),
                page_table = leases.AddPointer(cache.PageTable),
                page_table_width = cache.PageTable?.Shape.Channels ?? 0,
            };
            NativeCall.Run(device, native, arguments, DecodeEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }

    private static SieveAttentionProblem Describe(
        SoftmaxOptions options, NativeRowFactor factor, AttentionInputs inputs, DeviceStarts? starts, ref TensorLeases leases)
    {
        SieveAttentionProblem native = NativeProblem.Describe(
            options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
        NativeProblem.AddScores(ref native, options.Scores, factor, inputs.RowFactors, ref leases);
        NativeProblem.AddSequences(ref native, starts, inputs.KeyLengths, ref leases);
        return native;
    }
}
