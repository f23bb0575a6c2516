using System.ComponentModel;
using System.Diagnostics;
using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

/// <summary>Runs a program to its end and keeps what it wrote.</summary>
internal static class ExternalProgram
{
    /// <summary>Outcome of one run; <paramref name="Output"/> holds both streams.</summary>
    public sealed record Result(int ExitCode, string Output);

    /// <summary>Runs <paramref name="program"/>, found on PATH; ignores the running test where it is not installed.</summary>
    public static async Task<Result> RunAsync(
        string program,
        string[] arguments,
        string? folder = null,
        IReadOnlyDictionary<string, string>? environment = null)
    {
        ProcessStartInfo start = new(program, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = folder ?? "",
        };
        foreach ((string name, string value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        Process? process = null;
        try
        {
            process = Process.Start(start);
        }
        catch (Win32Exception e)
        {
            Assert.Ignore($"{program} cannot be started here: {e.Message}");
        }

        using (process)
        {
            Task<string> output = process!.StandardOutput.ReadToEndAsync();
            Task<string> errors = process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            return new Result(process.ExitCode, await output + await errors);
        }
    }
}
