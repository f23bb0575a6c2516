using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// Threshold differential attention in float32 on all cores (arXiv 2601.12145):
/// x_i = sum over visible j of ((s1_ij - tau_i)+^p - lambda (s2_ij - tau_i)+^p) v_j with cosine scores s.
/// </summary>
/// <remarks>
/// Tiles of 64 queries x 64 keys. Key tiles that no row sees are never visited; a tile without a survivor costs its scores only; a tile with
/// few survivors adds their values one by one. The forward result does not depend on the number of threads: each row is summed by one task
/// in ascending key order. Memory beside the results: packed copies of keys and values plus a fixed amount for each thread.
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
        new(problem, parameters, new ThresholdInputs(q1, k1, q2, k2, v), new Epilogue(parameters.Epilogue, normGain, gate), execution, tuning);
}
