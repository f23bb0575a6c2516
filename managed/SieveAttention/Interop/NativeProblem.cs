namespace SieveAttention.Interop;

/// <summary>The part of a native call that all operators share: masks, sequences and epilogue.</summary>
internal static class NativeProblem
{
    internal static unsafe SieveAttentionProblem Describe(
        AttentionMask mask,
        KernelOptions kernels,
        EpilogueParameters epilogue,
        AttentionTensor? normGain,
        AttentionTensor? gate,
        ref TensorLeases leases)
    {
        return new SieveAttentionProblem
        {
            struct_size = (uint)sizeof(SieveAttentionProblem),
            causal = mask.Causal ? 1 : 0,
            query_alignment = (int)(mask.QueryOffset is null ? SieveQueryAlignment.End : SieveQueryAlignment.Offset),
            path = (int)kernels.Path,
            query_offset = mask.QueryOffset ?? 0,
            window = mask.Window ?? 0,
            norm = (int)(epilogue.Norm == OutputNorm.Rms ? SieveNorm.Rms : SieveNorm.None),
            norm_eps = epilogue.Norm == OutputNorm.Rms ? (float)epilogue.NormEpsilon : 0,
            norm_gain = leases.AddPointer(normGain),
            output_scale = (float)epilogue.OutputScale,
            repeatability = (int)kernels.Repeatability,
            gate = leases.Add(gate),
        };
    }

    /// <summary>A parameter with one value for all heads.</summary>
    internal static SieveScalar Scalar(double value) => new() { value = (float)value };

    /// <summary>Adds where sequences begin and end.</summary>
    internal static void AddSequences(
        ref SieveAttentionProblem native, DeviceStarts? starts, AttentionTensor? keyLengths, ref TensorLeases leases)
    {
        native.query_starts = leases.AddPointer(starts?.Queries);
        native.key_starts = leases.AddPointer(starts?.Keys);
        native.sequence_count = starts?.Count ?? 0;
        native.longest_query = starts?.LongestQuery ?? 0;
        native.key_lengths = leases.AddPointer(keyLengths);
    }

    /// <summary>Adds scale and row factor.</summary>
    internal static void AddScores(
        ref SieveAttentionProblem native,
        ScoreOptions scores,
        NativeRowFactor factor,
        AttentionTensor? rowFactors,
        ref TensorLeases leases)
    {
        native.scale = (float)(scores.Scale ?? 0);
        native.row_factor = (int)factor.Kind;
        native.row_first = factor.First(ref leases);
        native.row_second = factor.Second(ref leases);
        native.row_factors = leases.Add(rowFactors);
    }
}
