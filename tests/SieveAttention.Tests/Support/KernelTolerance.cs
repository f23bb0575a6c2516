using NUnit.Framework;

namespace SieveAttention.Tests.Support;

/// <summary>
/// The rule for kernels: error at most twice (gradients: three times) the error of a plain evaluation in the same type, both against
/// float64, plus an absolute floor of twice the rounding of (reference + c) - c in that type. c is 0.3 of the largest magnitude instead of 0.3:
/// thresholded outputs are often much smaller than 1, and a floor for outputs of 1 would let anything pass. The root mean square,
/// which sees mistakes that the largest error hides, gets the rounding of the reference itself as its floor.
/// </summary>
internal static class KernelTolerance
{
    public static void AssertWithin(
        ReadOnlySpan<double> kernel, ReadOnlySpan<double> plain, ReadOnlySpan<double> reference, TensorType type, string what)
    {
        string? violation = Violation(kernel, plain, reference, type, out string report);
        Assert.That(violation, Is.Null, $"{what}: {report}");
    }

    /// <summary>What breaks the rule; null where nothing does.</summary>
    public static string? Violation(
        ReadOnlySpan<double> kernel,
        ReadOnlySpan<double> plain,
        ReadOnlySpan<double> reference,
        TensorType type,
        out string report,
        double factor = 2)
    {
        Deviation ours = Deviation.Of(kernel, reference);
        Deviation theirs = Deviation.Of(plain, reference);
        double floor = Floor(reference, type);
        double rounding = Deviation.Of(Array.ConvertAll(reference.ToArray(), value => Values.Round(value, type)), reference).Rms;
        report = FormattableString.Invariant($"kernel {ours}; plain {theirs}; floor {floor:E2}, rms {rounding:E2}");
        // Negated so that NaN is a violation.
        return !(ours.Max <= (factor * theirs.Max) + floor) ? "the largest error is too large"
            : !(ours.Rms <= (factor * theirs.Rms) + rounding) ? "the rms error is too large"
            : null;
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
