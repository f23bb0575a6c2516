using System.Text.Json;
using NUnit.Framework;
using SieveAttention.Cli.Commands;

namespace SieveAttention.Tests.Cli;

/// <summary>The tool as a whole: help, exit codes, and the entry point itself.</summary>
public sealed class ToolTests
{
    [TestCase("--help", "Commands:")]
    [TestCase("-h", "verify")]
    [TestCase("--version", "sieve ")]
    [TestCase("info --help", "--json")]
    [TestCase("attend --help", "--backward")]
    [TestCase("attend x y z --help", "--dtype bf16|fp16")]
    [TestCase("verify --help", "Tolerances")]
    [TestCase("map -h", "--width")]
    public void Help_is_shown_on_stdout(string line, string fragment)
    {
        ToolRun run = ToolRun.Of(line.Split(' '));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok));
            Assert.That(run.Out, Does.Contain(fragment));
            Assert.That(run.Error, Is.Empty);
            Assert.That(run.Out.Split('\n').Select(text => text.Length), Is.All.LessThanOrEqualTo(120));
        }
    }

    [TestCase("", "command")]
    [TestCase("atend", "'atend'", "info, attend, verify, map")]
    [TestCase("attend", "CASE is missing")]
    [TestCase("attend a b", "one CASE is allowed", "'b'")]
    [TestCase("attend a --force", "unknown option '--force'", "--backward")]
    [TestCase("attend none.safetensors", "none.safetensors", "cannot be read")]
    [TestCase("attend none.safetensors --dtype fp32", "--dtype", "'fp32'", "bf16, fp16")]
    [TestCase("verify", "CASE is missing")]
    [TestCase("verify none.safetensors", "none.safetensors", "cannot be read")]
    [TestCase("map", "CASE is missing")]
    [TestCase("map x --width 100", "--width", "'100'", "900")]
    [TestCase("info x", "'x'")]
    public void Bad_usage_is_one_line_on_stderr(string line, params string[] fragments)
    {
        ToolRun.Of(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).AssertRefused(fragments);
    }

    [Test]
    public void Info_names_every_device()
    {
        ToolRun run = ToolRun.Of("info");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok));
            Assert.That(run.Out, Does.Contain("reference: float64"));
            Assert.That(run.Out, Does.Contain($"cpu: float32, {Environment.ProcessorCount} threads"));
            Assert.That(run.Out, Does.Contain("-bit vectors"));
            Assert.That(run.Out, Does.Contain("cuda:"));
            Assert.That(run.Out, Does.Contain("native library"));
        }
    }

    [Test]
    public void Info_writes_json()
    {
        using JsonDocument json = JsonDocument.Parse(ToolRun.Of("info", "--json").Out);
        JsonElement devices = json.RootElement.GetProperty("devices");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(
                devices.EnumerateArray().Select(device => device.GetProperty("name").GetString()!.Split(':')[0]).Distinct(),
                Is.EqualTo(new[] { "reference", "cpu", "cuda" }));
            Assert.That(json.RootElement.GetProperty("version").GetString(), Is.EqualTo(SieveDiagnostics.ManagedVersion));
            JsonElement last = devices[devices.GetArrayLength() - 1];
            Assert.That(last.GetProperty("available").GetBoolean(), Is.EqualTo(CudaDevice.IsAvailable(out string reason)));
            Assert.That(last.TryGetProperty("reason", out _), Is.EqualTo(reason.Length > 0));
        }
    }

    [Test]
    [NonParallelizable]
    public void The_entry_point_uses_the_console_and_returns_the_code()
    {
        TextWriter output = Console.Out;
        TextWriter error = Console.Error;
        using StringWriter capturedOutput = new();
        using StringWriter capturedError = new();
        int good;
        int bad;
        try
        {
            Console.SetOut(capturedOutput);
            Console.SetError(capturedError);
            good = SieveAttention.Cli.Program.Main(["attend", TestData.Golden("tda-causal"), "--device", "reference"]);
            bad = SieveAttention.Cli.Program.Main(["attend"]);
        }
        finally
        {
            Console.SetOut(output);
            Console.SetError(error);
        }
        using (Assert.EnterMultipleScope())
        {
            Assert.That(good, Is.Zero);
            Assert.That(bad, Is.EqualTo(2));
            Assert.That(capturedOutput.ToString(), Does.Contain("survivors2"));
            Assert.That(capturedError.ToString().Trim(), Is.EqualTo("sieve attend: CASE is missing"));
        }
    }
}
