using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Cli.Commands;

/// <summary>Options that name a file to write, such as <c>--out</c>, checked before anything is computed.</summary>
internal static class OutputPath
{
    /// <summary>Name of the usual one.</summary>
    public const string OptionName = "--out";

    /// <summary>Checks a path to write to.</summary>
    /// <param name="path">The path; an existing file there is replaced.</param>
    /// <param name="input">A file that must not be replaced: the case; null where there is none.</param>
    /// <param name="option">Name of the option, for messages.</param>
    /// <exception cref="UsageException">The path cannot be a file, or it is the case.</exception>
    public static string Check(string path, string? input, string option = OptionName)
    {
        if (path.Length == 0 || path.Contains('\0', StringComparison.Ordinal))
        {
            throw new UsageException($"{option}: found {Text.Quote(path)}; allowed: a file name");
        }
        string full = Path.GetFullPath(path);
        if (Directory.Exists(full) || Path.EndsInDirectorySeparator(path))
        {
            throw new UsageException($"{option}: found the directory {Text.Quote(path)}; allowed: a file name");
        }
        if (!Directory.Exists(Path.GetDirectoryName(full)))
        {
            throw new UsageException($"{option}: found {Text.Quote(path)}; allowed: a file in a directory that exists");
        }
        // Files appear by renaming, which would replace a device by a file.
        if (full.StartsWith("/dev/", StringComparison.Ordinal))
        {
            throw new UsageException($"{option}: found the device {Text.Quote(path)}; allowed: a regular file");
        }
        return input is null || full != Path.GetFullPath(input)
            ? path
            : throw new UsageException($"{option}: found {Text.Quote(path)}, the case itself; allowed: another file");
    }
}
