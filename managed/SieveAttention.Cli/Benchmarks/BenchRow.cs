namespace SieveAttention.Cli.Benchmarks;

/// <summary>One line of the table of times.</summary>
/// <param name="Operator">Name of the operator.</param>
/// <param name="Setup">What was measured.</param>
/// <param name="Path">Family of kernels that ran; width of the vectors on the Cpu device.</param>
/// <param name="Sets">Sets of tensors that took turns.</param>
/// <param name="Timing">Times; null where the device does not run it.</param>
/// <param name="Work">What one call amounts to.</param>
/// <param name="Note">What the numbers do not say, or why there are none.</param>
internal sealed record BenchRow(
    string Operator, BenchSetup Setup, string Path, int Sets, BenchTiming? Timing, BenchWork Work, string Note)
{
    /// <summary>Whether reading the cache, not computing, is the work.</summary>
    public bool IsBandwidth => Setup.Direction == AttentionDirection.Decode;

    /// <summary>Operations in a second, or bytes in a second; null without times.</summary>
    public double? Rate => Timing is null ? null : (IsBandwidth ? Work.Bytes : Work.Operations) / Timing.Median;

    /// <summary>The rate as a part of the ceiling that limits it; null without times.</summary>
    public double? Share(BenchCeilings ceilings) => Rate / (IsBandwidth ? ceilings.Bandwidth : ceilings.Rate);
}
