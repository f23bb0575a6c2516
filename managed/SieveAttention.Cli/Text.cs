using System.Globalization;
using System.Text;

namespace SieveAttention.Cli;

/// <summary>How foreign text and numbers are written into messages: always on one line, never longer than useful.</summary>
internal static class Text
{
    private const int LongestQuote = 80;

    /// <summary>Text of a file or a command line in quotes, control characters escaped, cut where it is long.</summary>
    public static string Quote(string text) => $"'{Escape(text, LongestQuote)}'";

    /// <summary>A message of another component on one line.</summary>
    public static string OneLine(string text)
    {
        string[] lines = text.Split(['\r', '\n'], StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        return Escape(string.Join("; ", lines).Replace(":; ", ": ", StringComparison.Ordinal), int.MaxValue);
    }

    /// <summary>A shape as it stands in a file: <c>[1, 6, 2048, 64]</c>.</summary>
    public static string Shape(IEnumerable<int> shape) => $"[{string.Join(", ", shape)}]";

    /// <summary>A number for a table: four significant digits, exponent only where it helps.</summary>
    public static string Number(double value)
    {
        double magnitude = Math.Abs(value);
        string format = magnitude == 0 || (magnitude >= 1e-3 && magnitude < 1e5) ? "0.####" : "0.00e+0";
        return value.ToString(format, CultureInfo.InvariantCulture);
    }

    /// <summary>A parameter, as short as its value allows: at most four decimals.</summary>
    public static string Parameter(double value)
    {
        double magnitude = Math.Abs(value);
        string format = magnitude == 0 || (magnitude >= 1e-3 && magnitude < 1e5) ? "0.####" : "0.####e+0";
        return value.ToString(format, CultureInfo.InvariantCulture);
    }

    /// <summary>A duration: milliseconds below ten seconds, seconds above.</summary>
    public static string Duration(TimeSpan time) => time.TotalSeconds < 10
        ? $"{Number(Math.Round(time.TotalMilliseconds, time.TotalMilliseconds < 100 ? 3 : 0))} ms"
        : $"{time.TotalSeconds.ToString("0.0", CultureInfo.InvariantCulture)} s";

    private static string Escape(string text, int longest)
    {
        StringBuilder result = new();
        foreach (char c in text)
        {
            if (result.Length >= longest)
            {
                return result.Append(CultureInfo.InvariantCulture, $"... ({text.Length} characters)").ToString();
            }
            // Direction overrides and line separators are as able to disturb a terminal as control characters.
            bool plain = char.GetUnicodeCategory(c) is not (UnicodeCategory.Control or UnicodeCategory.Format
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.Surrogate);
            result.Append(plain ? c.ToString() : $"\\u{(int)c:x4}");
        }
        return result.ToString();
    }
}
