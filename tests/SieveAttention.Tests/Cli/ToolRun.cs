using NUnit.Framework;
using SieveAttention.Cli.Commands;

namespace SieveAttention.Tests.Cli;

/// <summary>One run of the tool in this process, with what it wrote.</summary>
internal sealed record ToolRun(ExitCode Code, string Out, string Error)
{
    /// <summary>Runs the tool.</summary>
    public static ToolRun Of(params string[] arguments)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        ExitCode code = Tool.Run(arguments, new CommandContext(output, error, ErrorIsTerminal: false));
        return new ToolRun(code, output.ToString(), error.ToString());
    }

    /// <summary>Asserts that the run was refused: code 2, nothing on stdout, one line on stderr that holds all fragments.</summary>
    public void AssertRefused(params string[] fragments)
    {
        using (Assert.EnterMultipleScope())
        {
            Assert.That(Code, Is.EqualTo(ExitCode.BadInput));
            Assert.That(Out, Is.Empty);
            Assert.That(Error.TrimEnd('\r', '\n'), Does.Not.Contain("\n"), "the error is one line");
            Assert.That(Error, Does.StartWith("sieve"));
            foreach (string fragment in fragments)
            {
                Assert.That(Error, Does.Contain(fragment));
            }
        }
    }
}
