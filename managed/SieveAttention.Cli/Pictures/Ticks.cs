using System.Globalization;

namespace SieveAttention.Cli.Pictures;

/// <summary>Round numbers for axes.</summary>
internal static class Ticks
{
    /// <summary>Multiples of 1, 2, 2.5 or 5 times a power of ten within a range of integers, at most so many.</summary>
    public static IReadOnlyList<long> Integers(long first, long last, int most)
    {
        long step = 1;
        for (long decade = 1; (last - first) / step >= most; decade *= 10)
        {
            step = new[] { decade, 2 * decade, 5 * decade }.FirstOrDefault(size => (last - first) / size < most, 10 * decade);
        }
        List<long> ticks = [];
        for (long tick = (long)Math.Ceiling((double)first / step) * step; tick <= last; tick += step)
        {
            ticks.Add(tick);
        }
        return ticks;
    }

    /// <summary>Powers of ten of a range below a limit, from large to small.</summary>
    public static IEnumerable<double> PowersOfTen(double limit, int most)
    {
        int exponent = (int)Math.Floor(Math.Log10(limit));
        return Enumerable.Range(0, most).Select(index => Math.Pow(10, exponent - index));
    }

    /// <summary>A power of ten as text: 0.1, 0.01, then 1e-3.</summary>
    public static string PowerText(double value) =>
        value.ToString(value >= 0.01 && value < 1e4 ? "0.##" : "0e+0", CultureInfo.InvariantCulture)
            .Replace("e+", "e", StringComparison.Ordinal);
}
