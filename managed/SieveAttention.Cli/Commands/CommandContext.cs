using SieveAttention.Cli.CommandLine;
using SieveAttention.Cli.Output;

namespace SieveAttention.Cli.Commands;

/// <summary>What the tool returns to the shell.</summary>
internal enum ExitCode
{
    /// <summary>Done.</summary>
    Ok = 0,

    /// <summary>A device is beyond a tolerance.</summary>
    VerificationFailed = 1,

    /// <summary>Bad input or usage, or a device that cannot do it; one line on stderr says what.</summary>
    BadInput = 2,
}

/// <summary>Where a command writes.</summary>
/// <param name="Out">Results.</param>
/// <param name="Error">Errors and progress.</param>
/// <param name="ErrorIsTerminal">Whether a person watches <paramref name="Error"/>, so that a progress bar makes sense.</param>
internal sealed record CommandContext(TextWriter Out, TextWriter Error, bool ErrorIsTerminal)
{
    /// <summary>The switch of commands that can take long.</summary>
    public static Option ProgressSwitch { get; } = new(
        "--progress", null, "Report progress as lines on stderr (a terminal shows a bar without it).");

    /// <summary>Starts to show progress in the style that the command line asks for.</summary>
    public Progress StartProgress(Arguments arguments, int steps)
    {
        ProgressStyle style = arguments.Has(ProgressSwitch.Name) ? ProgressStyle.Lines
            : ErrorIsTerminal ? ProgressStyle.Bar
            : ProgressStyle.None;
        return new Progress(Error, style, steps);
    }
}
