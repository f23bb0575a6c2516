using System.Globalization;

namespace SieveAttention.Cli.Cases;

/// <summary>
/// The numbers of case metadata: plain decimal, such as <c>12</c>, <c>-0.5</c> or <c>1e-5</c>. Not allowed are nan, inf,
/// hexadecimal, signs of plus, digit separators, surrounding blanks, and a point without digits on both sides.
/// </summary>
internal static class CaseNumber
{
    /// <summary>What messages call a number.</summary>
    public const string Description = "a plain decimal number such as 12, -0.5 or 1e-5";

    /// <summary>Reads a finite number.</summary>
    public static bool TryParse(string text, out double value)
    {
        value = 0;
        int position = 0;
        Skip(text, ref position, "-");
        bool wellFormed = SkipDigits(text, ref position);
        if (Skip(text, ref position, "."))
        {
            wellFormed &= SkipDigits(text, ref position);
        }
        if (Skip(text, ref position, "eE"))
        {
            Skip(text, ref position, "+-");
            wellFormed &= SkipDigits(text, ref position);
        }
        return wellFormed
            && position == text.Length
            && double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out value)
            && double.IsFinite(value);
    }

    /// <summary>Reads an integer that fits a <see cref="long"/>: digits with at most a minus before them.</summary>
    public static bool TryParseInteger(string text, out long value)
    {
        value = 0;
        int position = 0;
        Skip(text, ref position, "-");
        return SkipDigits(text, ref position)
            && position == text.Length
            && long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out value);
    }

    private static bool Skip(string text, ref int position, string characters)
    {
        bool found = position < text.Length && characters.Contains(text[position], StringComparison.Ordinal);
        position += found ? 1 : 0;
        return found;
    }

    private static bool SkipDigits(string text, ref int position)
    {
        int first = position;
        while (position < text.Length && char.IsAsciiDigit(text[position]))
        {
            position++;
        }
        return position > first;
    }
}
