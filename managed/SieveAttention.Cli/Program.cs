using SieveAttention.Cli.Commands;

namespace SieveAttention.Cli;

/// <summary>The entry of the tool <c>sieve</c>.</summary>
internal static class Program
{
    /// <summary>Runs the tool on the console.</summary>
    /// <param name="arguments">Command and its arguments.</param>
    /// <returns>See <see cref="ExitCode"/>.</returns>
    public static int Main(string[] arguments) =>
        (int)Tool.Run(arguments, new CommandContext(Console.Out, Console.Error, !Console.IsErrorRedirected));
}
