using System.Globalization;

namespace SieveAttention.Cli.Commands;

/// <summary>Statistics of weights as lines of text.</summary>
internal static class StatisticsText
{
    /// <summary>The lines; quantities that no row has are left out.</summary>
    public static IEnumerable<string> Lines(AttentionStatistics statistics)
    {
        string share = statistics.FirstKeyShare is { } first
            ? $"; key 0 has {Percent(first)} (equal weights: {Percent(statistics.UniformFirstKeyShare!.Value)})"
            : "";
        string entropy = statistics.Entropy is { } nats
            ? $"; entropy {Text.Number(nats)} nats ({Text.Number(Math.Exp(nats))} keys)"
            : "";
        yield return $"weights: {Percent(statistics.ZeroFraction)} exactly 0; support {Text.Number(statistics.MeanSupport)} keys a row "
            + $"(largest {statistics.LargestSupport}, none in {Percent(statistics.EmptyRowFraction)} of rows){share}{entropy}";
        if (statistics.DroppedMass is { } dropped)
        {
            yield return $"selection: drops {Percent(dropped)} of the mass (at most {Percent(statistics.LargestDroppedMass!.Value)}); "
                + $"output within {Text.Number(statistics.SelectionErrorBound!.Value)} of full attention on average "
                + $"(at most {Text.Number(statistics.LargestSelectionErrorBound!.Value)})";
        }
    }

    private static string Percent(double part) => $"{(100 * part).ToString("0.###", CultureInfo.InvariantCulture)} %";
}
