namespace SieveAttention.Interop;

/// <summary>Threshold differential attention over a cache in the native library. Arguments have been checked.</summary>
internal static class NativeThresholdDecode
{
    private static unsafe NativeEntry<SieveTdaDecodeArguments> DecodeEntry =>
        new("sieve_tda_decode", &SieveNative.TdaDecodeWorkspace, &SieveNative.TdaDecode);

    /// <summary>The newest keys of every sequence enter the cache; absent tensors are in it already.</summary>
    internal static unsafe void Append(
        CudaDevice device,
        CachedThresholdKeys cache,
        int rows,
        AttentionTensor? key1,
        AttentionTensor? value,
        AttentionTensor? key2,
        AttentionStream? stream)
    {
        TensorLeases leases = default;
        try
        {
            SieveTdaCache native = Describe(cache, ref leases);
            SieveTdaAppendArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveTdaAppendArguments),
                batch = cache.Sequences,
                cache = (nint)(&native),
                rows = rows,
                key_lengths = leases.AddPointer(cache.Lengths),
                new_key1 = leases.Add(key1),
                new_key2 = leases.Add(key2),
                new_value = leases.Add(value),
            };
            using HandleLease context = new(device.Context);
            using HandleLease queue = AttentionStream.Lease(stream, device);
            NativeStatus.Check(SieveNative.TdaAppend(context.Value, &arguments, queue.Value), "sieve_tda_append");
        }
        finally
        {
            leases.Dispose();
        }
    }

    internal static unsafe void Decode(
        CudaDevice device,
        ThresholdDifferentialOptions options,
        ThresholdDifferentialDecodeInputs inputs,
        CachedThresholdKeys cache,
        ThresholdDifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        TensorLeases leases = default;
        try
        {
            SieveTdaCache native = Describe(cache, ref leases);
            SieveAttentionProblem problem = NativeProblem.Describe(
                options.Mask, options.Kernels, options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, ref leases);
            NativeProblem.AddSequences(ref problem, starts: null, cache.Lengths, ref leases);
            SieveTdaDecodeArguments arguments = new()
            {
                struct_size = (uint)sizeof(SieveTdaDecodeArguments),
                splits = options.Kernels.DecodeSplits,
                query1 = leases.Add(inputs.Query1),
                query2 = leases.Add(inputs.Query2),
                cache = (nint)(&native),
                output = leases.Add(into.Output),
                survivors1 = leases.Add(into.Survivors1),
                survivors2 = leases.Add(into.Survivors2),
                beta = NativeProblem.Scalar(options.Beta),
                lambda = NativeProblem.Scalar(options.Lambda),
                kappa = (float)options.Kappa,
                power = (float)options.Power,
            };
            NativeCall.Run(device, problem, arguments, DecodeEntry, stream, workspace);
        }
        finally
        {
            leases.Dispose();
        }
    }

    private static unsafe SieveTdaCache Describe(CachedThresholdKeys cache, ref TensorLeases leases) => new()
    {
        struct_size = (uint)sizeof(SieveTdaCache),
        screen = (int)cache.Screen,
        key1 = leases.Add(cache.Key1),
        key2 = leases.Add(cache.Key2),
        value = leases.Add(cache.Value),
        inverse_norms1 = leases.Add(cache.InverseNorms1),
        inverse_norms2 = leases.Add(cache.InverseNorms2),
        images1 = leases.Add(cache.Images1),
        images2 = leases.Add(cache.Images2),
        page_table = leases.AddPointer(cache.PageTable),
        page_table_width = cache.PageTable?.Shape.Channels ?? 0,
    };
}
