namespace SieveAttention.Bindings;

/// <summary>From the C spelling of a name to the .NET spelling.</summary>
internal static class Names
{
    /// <summary><c>sieve_log_level</c> becomes <c>SieveLogLevel</c>, functions and members lose their first words.</summary>
    internal static string Pascal(string name, int skippedWords = 0)
    {
        string pascal = string.Concat(name.Split('_').Skip(skippedWords).Select(
            word => char.ToUpperInvariant(word[0]) + word[1..].ToLowerInvariant()));
        return char.IsAsciiLetter(pascal[0])
            ? pascal
            : throw new NotSupportedException($"{name} has no C# name without its prefix ({pascal}).");
    }

    /// <summary>
    /// The number of words at the start that all members share with the name of their enumeration. The name takes part so that
    /// members which happen to begin alike, or a single member, keep what is theirs.
    /// </summary>
    internal static int CommonWords(string enumeration, IEnumerable<string> members)
    {
        string[] common = enumeration.ToUpperInvariant().Split('_');
        foreach (string member in members)
        {
            common = [.. common.Zip(member.Split('_')[..^1]).TakeWhile(pair => pair.First == pair.Second).Select(pair => pair.First)];
        }

        return common.Length;
    }
}
