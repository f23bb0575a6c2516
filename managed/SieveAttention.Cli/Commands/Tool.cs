using SieveAttention.Cli.Cases;
using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Cli.Commands;

/// <summary>Finds the command and turns the exceptions of bad input into one line and an exit code.</summary>
internal static class Tool
{
    private static readonly Command[] s_commands = [new InfoCommand(), new AttendCommand(), new VerifyCommand(), new MapCommand(), new BenchCommand()];

    /// <summary>Runs the tool.</summary>
    public static ExitCode Run(IReadOnlyList<string> arguments, CommandContext context)
    {
        string prefix = "sieve";
        try
        {
            switch (arguments.Count > 0 ? arguments[0] : null)
            {
                case null:
                    throw new UsageException($"a command is missing; allowed: {CommandNames}; 'sieve --help' explains them");
                case "--help" or "-h":
                    WriteHelp(context.Out);
                    return ExitCode.Ok;
                case "--version":
                    context.Out.WriteLine($"sieve {SieveDiagnostics.ManagedVersion}");
                    return ExitCode.Ok;
                case string name:
                    Command command = Array.Find(s_commands, candidate => candidate.Name == name)
                        ?? throw new UsageException($"unknown command {Text.Quote(name)}; allowed: {CommandNames}");
                    prefix = $"sieve {name}";
                    return command.Run([.. arguments.Skip(1)], context);
            }
        }
        catch (Exception error) when (IsForTheUser(error))
        {
            context.Error.WriteLine($"{prefix}: {Text.OneLine(error.Message)}");
            return ExitCode.BadInput;
        }
    }

    private static string CommandNames => string.Join(", ", s_commands.Select(command => command.Name));

    /// <summary>Exceptions whose message tells the user what to change; others are faults of the tool and stay as they are.</summary>
    private static bool IsForTheUser(Exception error) => error
        is UsageException or CaseException or ArgumentException or NotSupportedException or SieveException
        or IOException or UnauthorizedAccessException or OutOfMemoryException;

    private static void WriteHelp(TextWriter writer)
    {
        writer.WriteLine("Usage: sieve COMMAND [arguments]");
        writer.WriteLine();
        writer.WriteLine("Runs, checks and draws attention operators on case files (safetensors with a problem in it), and measures them.");
        writer.WriteLine();
        writer.WriteLine("Commands:");
        foreach (Command command in s_commands)
        {
            writer.WriteLine($"  {command.Name,-8}{command.Summary}");
        }
        writer.WriteLine();
        writer.WriteLine("  sieve COMMAND --help   explains a command");
        writer.WriteLine("  sieve --version        shows the version");
        writer.WriteLine();
        writer.WriteLine("Exit codes: 0 done, 1 a device is beyond a tolerance, 2 bad input or usage (one line on stderr).");
    }
}
