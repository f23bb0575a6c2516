namespace SieveAttention.Cli.CommandLine;

/// <summary>An option that a command knows.</summary>
/// <param name="Name">The name with its dashes, such as <c>--out</c>.</param>
/// <param name="Value">What the help calls its value, such as <c>FILE</c>; null for a switch without a value.</param>
/// <param name="Help">One sentence for the help; line breaks are kept.</param>
internal sealed record Option(string Name, string? Value, string Help)
{
    /// <summary>The switch that every command has.</summary>
    public static Option HelpSwitch { get; } = new("--help", null, "Show this help.");

    /// <summary>How the help writes the option.</summary>
    public string Signature => Value is null ? Name : $"{Name} {Value}";
}
