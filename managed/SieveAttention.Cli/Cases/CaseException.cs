namespace SieveAttention.Cli.Cases;

/// <summary>
/// A case or result file is not what it must be. The message is one line that names the file, the key, the value found and
/// what is allowed. Readers of this folder throw nothing else, whatever a file holds.
/// </summary>
internal sealed class CaseException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Names a key of a file, what was found there and what is allowed.</summary>
    public static CaseException At(string file, string key, string found, string allowed) =>
        new($"{Text.OneLine(file)}: {key}: found {found}; allowed: {allowed}");

    /// <summary>Says that a file cannot be read at all.</summary>
    public static CaseException Unreadable(string file, Exception reason) =>
        new($"{Text.OneLine(file)}: cannot be read: {Text.OneLine(reason.Message)}", reason);
}
