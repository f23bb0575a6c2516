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
    private readonly double[] _unitThresholds = Unknown(problem.Queries);

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
    internal double UnitThreshold(int row)
    {
        // Computed by whichever head comes first; where two come at once, both write the same number.
        double known = Volatile.Read(ref _unitThresholds[row]);
        if (double.IsNaN(known))
        {
            known = RowThreshold.Unit(Problem.Visible(row).Count, Kappa, Problem.HeadDim);
            Volatile.Write(ref _unitThresholds[row], known);
        }

        return known;
    }

    /// <summary>Whether byte products rule out most pairs before scores are computed. The result is the same bits.</summary>
    internal bool Screens { get; } =
        tuning.MaxCandidateRows > 0 && ScreenedKeys.Supports(problem.HeadDim) && LaneChoice.HasByteProducts(execution.VectorWidth);

    /// <summary>Rows of a tile with a candidate beyond which all of its scores are computed.</summary>
    internal int MaxCandidateRows => tuning.MaxCandidateRows;

    /// <summary>Whether a tile has so many survivors that whole products are cheaper than adding them one by one.</summary>
    internal bool IsDense(int survivors, int rows, int keys) => survivors > tuning.DenseSurvivors * rows * keys;

    private static double[] Unknown(int rows)
    {
        double[] values = new double[rows];
        Array.Fill(values, double.NaN);
        return values;
    }
}
