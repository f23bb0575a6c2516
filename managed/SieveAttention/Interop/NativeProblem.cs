namespace SieveAttention.Interop;

/// <summary>The part of a native call that all operators share: masks and epilogue.</summary>
internal static class NativeProblem
{
    internal static unsafe SieveAttentionProblem Describe(
        in AttentionProblem problem, EpilogueParameters epilogue, AttentionTensor? normGain, AttentionTensor? gate, ref TensorLeases leases)
    {
        return new SieveAttentionProblem
        {
            struct_size = (uint)sizeof(SieveAttentionProblem),
            causal = problem.Causal ? 1 : 0,
            query_alignment = (int)SieveQueryAlignment.Offset,
            query_offset = problem.QueryOffset,
            window = problem.Window,
            norm = (int)(epilogue.Norm == OutputNorm.Rms ? SieveNorm.Rms : SieveNorm.None),
            norm_eps = (float)epilogue.NormEpsilon,
            norm_gain = leases.AddPointer(normGain),
            output_scale = (float)epilogue.OutputScale,
            gate = leases.Add(gate),
        };
    }

    /// <summary>A parameter with one value for all heads.</summary>
    internal static SieveScalar Scalar(double value) => new() { value = (float)value };
}
