using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Gradients of the unit keys and of the values of one key head, summed over the query tiles of one chunk.</summary>
internal sealed class KeyGradients : IDisposable
{
    private readonly FloatArena _arena = new(FloatArena.Large);

    internal KeyGradients(ThresholdCall call)
    {
        AttentionProblem problem = call.Problem;
        Key1 = Zeros(problem.Keys, problem.HeadDim);
        Key2 = call.Inputs.TwoViews ? Zeros(problem.Keys, problem.HeadDim) : null;
        Value = Zeros(problem.Keys, problem.ValueDim);
    }

    internal PaddedRows Key1 { get; }

    internal PaddedRows? Key2 { get; }

    internal PaddedRows Value { get; }

    private PaddedRows Zeros(int rows, int channels)
    {
        PaddedRows zeros = new(_arena, rows, channels);
        zeros.Clear(rows);
        return zeros;
    }

    public void Dispose() => _arena.Dispose();
}
