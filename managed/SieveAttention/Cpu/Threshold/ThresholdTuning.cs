namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Every tuned number of thresholded attention on the CPU. None of them changes a bit of the forward result. Measured 2026-11 on 2 cores
/// of an AMD EPYC 9004, .NET 10.0, B1 H4 N1024, causal, random inputs whose density beta sets.
/// </summary>
/// <param name="DenseSurvivors">
/// A tile with more survivors (of both views) than this share of its pairs multiplies all weights with all values; one with fewer adds
/// the value rows of its survivors one by one. Forward both ways cost the same at 0.09 (one view) to 0.15 (two views, head_dim 64 and
/// 128), backward at 0.17 to 0.22. At 0.007 one by one takes 4.7 ms against 10.2 ms, at 0.5 it takes 12.6 ms against 6.2 ms.
/// </param>
/// <param name="MaxCandidateRows">
/// A tile of 64 x 64 pairs of one view of which more rows than this have a candidate after screening computes all of its scores, and so do
/// the tiles after it until one has survivors in at most half as many rows; 0 = never screen. Screening a tile takes 0.75 us (head_dim 64,
/// EPYC 9005), less than the scores of half of its rows. On the trained head of the test data 244 of 1056 tiles have survivors, in 1 to
/// 10 rows; when tiles of up to 32 candidates were scored pair by pair and the others whole, the latter were 142.
/// </param>
internal sealed record ThresholdTuning(double DenseSurvivors, int MaxCandidateRows)
{
    internal static readonly ThresholdTuning Default = new(DenseSurvivors: 0.125, MaxCandidateRows: 32);
}
