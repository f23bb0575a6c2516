namespace SieveAttention.Cli.Cases;

/// <summary>
/// The metadata of a case. Every key is asked for by name and default; afterwards <see cref="RefuseUnknown"/> finds the keys
/// that nobody asked for.
/// </summary>
internal sealed class CaseMetadata(string file, IReadOnlyDictionary<string, string> values)
{
    private readonly SortedSet<string> _known = new(StringComparer.Ordinal);

    /// <summary>Whether the key is there.</summary>
    public bool Has(string key) => Find(key) is not null;

    /// <summary>Free text, or null where the key is absent.</summary>
    public string? Text(string key) => Find(key);

    /// <summary>One of a few words; null for the default makes the key required.</summary>
    public string Choice(string key, string? absent, params IReadOnlyList<string> allowed)
    {
        string text = Find(key) ?? absent ?? throw Missing(key, string.Join(", ", allowed));
        return allowed.Contains(text) ? text : throw Refuse(key, Cli.Text.Quote(text), string.Join(", ", allowed));
    }

    /// <summary><c>true</c> or <c>false</c>.</summary>
    public bool Flag(string key, bool absent) => Choice(key, absent ? "true" : "false", "true", "false") == "true";

    /// <summary>A finite number, or the default where the key is absent.</summary>
    public double Number(string key, double absent) => OptionalNumber(key, _ => true, "") ?? absent;

    /// <summary>A finite number, or null where the key is absent.</summary>
    public double? OptionalNumber(string key) => OptionalNumber(key, _ => true, "");

    /// <summary>A finite number within limits, or null where the key is absent.</summary>
    /// <param name="key">The key.</param>
    /// <param name="isAllowed">Says whether a number is within the limits.</param>
    /// <param name="limits">The limits as text.</param>
    public double? OptionalNumberWithin(string key, Func<double, bool> isAllowed, string limits) =>
        OptionalNumber(key, isAllowed, $" {limits}");

    /// <summary>A finite number that must be there.</summary>
    /// <param name="key">The key.</param>
    /// <param name="with">What demands it, such as <c>row_factor = ssmax</c>.</param>
    public double RequiredNumber(string key, string with) =>
        OptionalNumber(key) ?? throw Missing(key, $"{CaseNumber.Description}, finite (required with {with})");

    /// <summary>An integer within limits that must be there.</summary>
    public long RequiredInteger(string key, long least, long most) =>
        OptionalInteger(key, least, most) ?? throw Missing(key, $"an integer from {least} to {most}");

    /// <summary>A finite number at least as large as the limit, or the default where the key is absent.</summary>
    public double NumberAtLeast(string key, double absent, double least) =>
        OptionalNumber(key, value => value >= least, $" >= {least}") ?? absent;

    /// <summary>A finite number above 0, or the default where the key is absent.</summary>
    public double PositiveNumber(string key, double absent) => OptionalNumber(key, value => value > 0, " > 0") ?? absent;

    /// <summary>A finite number at least as large as the limit; null where the key is absent.</summary>
    public double? OptionalNumberAtLeast(string key, double least) => OptionalNumber(key, value => value >= least, $" >= {least}");

    /// <summary>An integer within limits; null where the key is absent.</summary>
    public long? OptionalInteger(string key, long least, long most)
    {
        if (Find(key) is not string text)
        {
            return null;
        }
        return CaseNumber.TryParseInteger(text, out long value) && value >= least && value <= most
            ? value
            : throw Refuse(key, Cli.Text.Quote(text), $"an integer from {least} to {most}");
    }

    /// <summary>Refuses keys that were not asked for.</summary>
    /// <exception cref="CaseException">There is one.</exception>
    public void RefuseUnknown()
    {
        string? unknown = values.Keys.Where(key => !_known.Contains(key)).Order(StringComparer.Ordinal).FirstOrDefault();
        if (unknown is not null)
        {
            throw CaseException.At(
                file,
                $"metadata {Cli.Text.Quote(unknown)}",
                $"the value {Cli.Text.Quote(values[unknown])} under a key that this operator does not have",
                string.Join(", ", _known));
        }
    }

    /// <summary>Refuses a key that only makes sense with something else.</summary>
    public void RefuseWithout(string key, bool isThere, string with)
    {
        if (!isThere && Find(key) is string text)
        {
            throw Refuse(key, $"{Cli.Text.Quote(text)} without {with}", $"{key} with {with} only");
        }
    }

    /// <summary>Says that a key is needed.</summary>
    public CaseException Missing(string key, string allowed) => Refuse(key, "no value", allowed);

    /// <summary>Says that the value of a key is not allowed.</summary>
    public CaseException Refuse(string key, string found, string allowed) =>
        CaseException.At(file, $"metadata {Cli.Text.Quote(key)}", found, allowed);

    private double? OptionalNumber(string key, Func<double, bool> isAllowed, string limit)
    {
        if (Find(key) is not string text)
        {
            return null;
        }
        return CaseNumber.TryParse(text, out double value) && isAllowed(value)
            ? value
            : throw Refuse(key, Cli.Text.Quote(text), $"{CaseNumber.Description}, finite{limit}");
    }

    private string? Find(string key)
    {
        _known.Add(key);
        return values.GetValueOrDefault(key);
    }
}
