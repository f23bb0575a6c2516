using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>The tensors of one call; the second view is absent where both of its tensors are.</summary>
internal sealed record ThresholdInputs(
    HostArray<float> Query1, HostArray<float> Key1, HostArray<float>? Query2, HostArray<float>? Key2, HostArray<float> Value)
{
    internal bool TwoViews => Query2 is not null;
}

/// <summary>One call: what every task of it reads.</summary>
internal sealed class ThresholdCall(
    AttentionProblem problem, ThresholdDifferentialParameters parameters, ThresholdInputs inputs, Epilogue epilogue, CpuExecution execution,
    ThresholdTuning tuning)
{
    /// <summary>Once for all heads.</summary>
    private readonly double[] _unitThresholds =
        [.. Enumerable.Range(0, problem.Queries).Select(row => RowThreshold.Unit(problem.Visible(row).Count, parameters.Kappa, problem.HeadDim))];

    internal AttentionProblem Problem { get; } = problem;

    internal ThresholdInputs Inputs { get; } = inputs;

    internal Epilogue Epilogue { get; } = epilogue;

    internal CpuExecution Execution { get; } = execution;

    internal TileSchedule Schedule { get; } = new(problem);

    internal ThresholdPower Power { get; } = new(parameters.Power);

    internal double Kappa { get; } = parameters.Kappa;

    internal double Beta(int head) => parameters.Beta[head];

    internal float Lambda(int head) => (float)parameters.Lambda[head];

    /// <summary>d tau / d beta of a query row; tau is beta times this.</summary>
    internal double UnitThreshold(int row) => _unitThresholds[row];

    /// <summary>Whether byte products rule out most pairs before scores are computed. The result is the same bits.</summary>
    internal bool Screens { get; } =
        tuning.MaxCandidates > 0 && ScreenedKeys.Supports(problem.HeadDim) && LaneChoice.HasByteProducts(execution.VectorWidth);

    /// <summary>Candidates of a tile beyond which all of its scores are computed.</summary>
    internal int MaxCandidates => tuning.MaxCandidates;

    /// <summary>Whether a tile has so many survivors that whole products are cheaper than adding them one by one.</summary>
    internal bool IsDense(int survivors, int rows, int keys) => survivors > tuning.DenseSurvivors * rows * keys;
}
