using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// Threshold differential attention in float32 on all cores (arXiv 2601.12145): x_i = sum over visible j of ((s1_ij - tau_i)+^p - lambda
/// (s2_ij - tau_i)+^p) v_j with cosine scores s.
/// </summary>
/// <remarks>
/// <para>
/// Tiles of 64 queries x 64 keys. Key tiles that no row sees are never visited. Byte products first rule out most pairs with a bound that
/// is never below the score; the float scores of the rest decide. A tile without a survivor costs no value product, one with few adds
/// their values one by one, one with many is computed whole. None of these choices changes a bit of the output.
/// </para>
/// <para>
/// The forward result does not depend on the number of threads or on the vector width: each row is summed by one task in ascending key
/// order. Backward, gradients of queries, gate, gain, beta, kappa and lambda do not depend on the number of threads either; those of keys
/// and values are summed over queries in pieces whose number follows the number of threads: the same bits for the same number, other last
/// digits for another. Scalar gradients are accumulated in double.
/// </para>
/// <para>
/// Memory beside results and inputs: packed copies of keys and values and, backward, a few copies of the gradients of keys and values,
/// all linear in the length, plus a fixed amount for each thread. A pair whose score is NaN contributes NaN; a weight of 0 contributes
/// nothing, whatever the value.
/// </para>
/// </remarks>
internal static class ThresholdDifferential
{
    internal static ThresholdDifferentialForward<float> Forward(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<float> q1, HostArray<float> k1,
        HostArray<float>? q2, HostArray<float>? k2, HostArray<float> v, float[]? normGain, HostArray<float>? gate) =>
        Forward(problem, parameters, q1, k1, q2, k2, v, normGain, gate, CpuExecution.Default, ThresholdTuning.Default);

    internal static ThresholdDifferentialForward<float> Forward(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<float> q1, HostArray<float> k1,
        HostArray<float>? q2, HostArray<float>? k2, HostArray<float> v, float[]? normGain, HostArray<float>? gate,
        CpuExecution execution, ThresholdTuning tuning)
    {
        ThresholdForward forward = new(Call(problem, parameters, q1, k1, q2, k2, v, normGain, gate, execution, tuning));
        LaneChoice.Run(forward, execution.VectorWidth);
        return forward.Result;
    }

    internal static ThresholdDifferentialBackward<float> Backward(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<float> q1, HostArray<float> k1,
        HostArray<float>? q2, HostArray<float>? k2, HostArray<float> v, float[]? normGain, HostArray<float>? gate, HostArray<float> dout) =>
        Backward(problem, parameters, q1, k1, q2, k2, v, normGain, gate, dout, CpuExecution.Default, ThresholdTuning.Default);

    internal static ThresholdDifferentialBackward<float> Backward(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<float> q1, HostArray<float> k1,
        HostArray<float>? q2, HostArray<float>? k2, HostArray<float> v, float[]? normGain, HostArray<float>? gate, HostArray<float> dout,
        CpuExecution execution, ThresholdTuning tuning)
    {
        ThresholdBackward backward = new(Call(problem, parameters, q1, k1, q2, k2, v, normGain, gate, execution, tuning), dout);
        LaneChoice.Run(backward, execution.VectorWidth);
        return backward.Result;
    }

    private static ThresholdCall Call(
        in AttentionProblem problem, ThresholdDifferentialParameters parameters, HostArray<float> q1, HostArray<float> k1,
        HostArray<float>? q2, HostArray<float>? k2, HostArray<float> v, float[]? normGain, HostArray<float>? gate,
        CpuExecution execution, ThresholdTuning tuning) =>
        new(
            problem, parameters, new ThresholdInputs(q1, k1, q2, k2, v), new Epilogue(parameters.Epilogue, normGain, gate), execution,
            tuning);
}
