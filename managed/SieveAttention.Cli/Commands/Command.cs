using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Cli.Commands;

/// <summary>A command of the tool.</summary>
internal abstract class Command
{
    /// <summary>Its name on the command line.</summary>
    public abstract string Name { get; }

    /// <summary>What it does, in one sentence.</summary>
    public abstract string Summary { get; }

    /// <summary>Its operands as the help writes them.</summary>
    public abstract string Operands { get; }

    /// <summary>Its options, without <c>--help</c>.</summary>
    public abstract IReadOnlyList<Option> Options { get; }

    /// <summary>What the help says below the options.</summary>
    public virtual string Notes => "";

    /// <summary>Takes the arguments apart and runs the command, or shows its help.</summary>
    public ExitCode Run(IReadOnlyList<string> arguments, CommandContext context)
    {
        Arguments parsed = Arguments.Parse(Name, arguments, [.. Options, Option.HelpSwitch]);
        if (parsed.Has(Option.HelpSwitch.Name))
        {
            WriteHelp(context.Out);
            return ExitCode.Ok;
        }
        return Run(parsed, context);
    }

    /// <summary>Runs the command.</summary>
    protected abstract ExitCode Run(Arguments arguments, CommandContext context);

    private void WriteHelp(TextWriter writer)
    {
        writer.WriteLine($"Usage: sieve {Name} {Operands}{(Operands.Length > 0 ? " " : "")}[options]");
        writer.WriteLine();
        writer.WriteLine(Summary);
        writer.WriteLine();
        writer.WriteLine("Options:");
        List<Option> options = [.. Options, Option.HelpSwitch];
        int width = options.Max(option => option.Signature.Length);
        foreach (Option option in options)
        {
            string indent = Environment.NewLine + new string(' ', width + 4);
            writer.WriteLine($"  {option.Signature.PadRight(width)}  {option.Help.Replace("\n", indent, StringComparison.Ordinal)}");
        }
        if (Notes.Length > 0)
        {
            writer.WriteLine();
            writer.WriteLine(Notes);
        }
    }
}
