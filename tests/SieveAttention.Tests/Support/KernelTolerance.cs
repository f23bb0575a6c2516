using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>
/// The rule for kernels: error at most twice the error of a plain evaluation in the same type, both against float64, plus an
/// absolute floor of twice the rounding of (reference + c) - c in that type. c is 0.3 of the largest magnitude instead of 0.3:
/// thresholded outputs are often much smaller than 1, and a floor for outputs of 1 would let anything pass.
/// </summary>
internal static class KernelTolerance
{
    public static void AssertWithin(ReadOnlySpan<double> kernel, ReadOnlySpan<double> plain, ReadOnlySpan<double> reference, TensorType type, string what)
    {
        Deviation ours = Deviation.Of(kernel, reference);
        Deviation theirs = Deviation.Of(plain, reference);
        double floor = Floor(reference, type);
        TestContext.Out.WriteLine(FormattableString.Invariant($"{what}: kernel {ours}; plain {theirs}; floor {floor:E2}"));
        Assert.That(ours.Max, Is.LessThanOrEqualTo((2 * theirs.Max) + floor), $"{what}: largest error; kernel {ours}; plain {theirs}");
        Assert.That(ours.Rms, Is.LessThanOrEqualTo((2 * theirs.Rms) + (floor / 8)), $"{what}: rms error; kernel {ours}; plain {theirs}");
    }

    public static double Floor(ReadOnlySpan<double> reference, TensorType type)
    {
        double scale = 0;
        foreach (double value in reference)
        {
            scale = Math.Max(scale, Math.Abs(value));
        }

        double c = Values.Round(0.3 * scale, type);
        double floor = 0;
        foreach (double value in reference)
        {
            double there = Values.Round(Values.Round(value, type) + c, type);
            floor = Math.Max(floor, Math.Abs(Values.Round(there - c, type) - value));
        }

        return 2 * floor;
    }
}
