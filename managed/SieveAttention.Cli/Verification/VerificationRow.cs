namespace SieveAttention.Cli.Verification;

/// <summary>What became of one comparison.</summary>
internal enum Verdict
{
    /// <summary>Within the tolerance.</summary>
    Passed,

    /// <summary>Beyond the tolerance.</summary>
    Failed,

    /// <summary>There was nothing to compare; the note says why.</summary>
    Absent,
}

/// <summary>One line of the table of errors.</summary>
/// <param name="Device">What computed the tensor.</param>
/// <param name="Type">The type it computed in, as case files call it.</param>
/// <param name="Tensor">Name of the tensor.</param>
/// <param name="Error">Errors; null where there was nothing to compare.</param>
/// <param name="Tolerance">Largest allowed <see cref="ErrorStatistics.MaxAbsolute"/>.</param>
/// <param name="Time">Time of the pass that gave the tensor; null for its further tensors.</param>
/// <param name="Verdict">The outcome.</param>
/// <param name="Note">What the numbers do not say.</param>
internal sealed record VerificationRow(
    string Device, string Type, string Tensor, ErrorStatistics? Error, double? Tolerance, TimeSpan? Time, Verdict Verdict, string Note)
{
    /// <summary>A line for what could not be run.</summary>
    public static VerificationRow Missing(string device, string type, string reason) =>
        new(device, type, "-", null, null, null, Verdict.Absent, Text.OneLine(reason));

    /// <summary>A line for values with a tolerance.</summary>
    public static VerificationRow Compare(
        string device,
        string type,
        string tensor,
        ReadOnlySpan<double> computed,
        ReadOnlySpan<double> exact,
        double tolerance,
        TimeSpan? time,
        string note = "")
    {
        ErrorStatistics error = ErrorStatistics.Compare(computed, exact);
        Verdict verdict = error.MaxAbsolute <= tolerance ? Verdict.Passed : Verdict.Failed;
        return new VerificationRow(device, type, tensor, error, tolerance, time, verdict, note);
    }
}
