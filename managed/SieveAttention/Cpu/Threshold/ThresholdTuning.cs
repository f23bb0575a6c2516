namespace SieveAttention.Cpu.Threshold;

/// <summary>Every tuned number of the thresholded operators on the CPU, with what was measured.</summary>
/// <param name="DenseSurvivors">
/// A tile with more survivors than this share of its pairs multiplies all weights with all values; one with fewer adds the value
/// rows of its survivors one by one.
/// </param>
/// <param name="MaxCandidates">
/// A tile of 64 x 64 pairs with more candidates than this after screening computes all of its scores; 0 = never screen.
/// </param>
internal sealed record ThresholdTuning(double DenseSurvivors, int MaxCandidates)
{
    internal static readonly ThresholdTuning Default = new(DenseSurvivors: 0.25, MaxCandidates: 64);
}
