using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;
using SieveAttention.Cli.Output;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary>
/// Random cases of every operator, written to files and read back: the Cpu device within its tolerances of the reference, forward and
/// backward. A failure names operator and seed. Longer runs: SIEVE_RANDOM_CASES=1000.
/// </summary>
public sealed class RandomCaseTests
{
    private static readonly int s_count =
        int.TryParse(Environment.GetEnvironmentVariable("SIEVE_RANDOM_CASES"), out int count) ? count : 40;

    [TestCaseSource(typeof(RandomCases), nameof(RandomCases.Operators))]
    public void The_cpu_agrees_with_the_reference(string name)
    {
        using ScratchFolder folder = new();
        using DeviceList devices = DeviceList.Named("cpu");
        List<string> failures = [];
        for (int seed = 0; seed < s_count; seed++)
        {
            AttentionCase parsed = CaseFile.Read(RandomCases.Make(name, seed).Write(folder["case"]));
            using Progress progress = new(TextWriter.Null, ProgressStyle.None, 1);
            foreach (VerificationRow row in new Verifier(parsed, null, [], progress).Run(devices).Where(row => row.Device == "cpu"))
            {
                if (row.Verdict != Verdict.Passed)
                {
                    failures.Add($"{name}, seed {seed}, {row.Tensor}: {row.Error} {row.Tolerance} {row.Note}; {parsed.Problem}; {parsed.Parameters}");
                }
            }
        }

        Assert.That(failures, Is.Empty, string.Join('\n', failures));
    }

    [TestCaseSource(typeof(RandomCases), nameof(RandomCases.Operators))]
    public void Attend_verify_and_map_take_them(string name)
    {
        using ScratchFolder folder = new();
        for (int seed = 100; seed < 106; seed++)
        {
            string path = RandomCases.Make(name, seed).Write(folder["case"]);
            foreach (string device in new[] { "reference", "cpu" })
            {
                Assert.That(
                    ToolRun.Of("attend", path, "--backward", "--device", device, "--out", folder["result"]).Code,
                    Is.EqualTo(ExitCode.Ok), $"attend, seed {seed}");
            }

            ToolRun map = ToolRun.Of("map", path, "--out", folder["map.png"]);
            if (map.Code != ExitCode.Ok)
            {
                map.AssertRefused("groups of", "span several key heads");
            }

            ToolRun verify = ToolRun.Of("verify", path, "--device", "cpu");
            Assert.That(verify.Code, Is.EqualTo(ExitCode.Ok), $"verify, seed {seed}: {verify.Out}{verify.Error}");
        }
    }

    /// <summary>Every key of a case with a value that is none, and every tensor with one dimension too many.</summary>
    [TestCaseSource(typeof(RandomCases), nameof(RandomCases.Operators))]
    public void A_fault_in_any_of_them_is_named(string name)
    {
        for (int seed = 0; seed < 20; seed++)
        {
            foreach (string key in RandomCases.Make(name, seed).Metadata.Keys.Where(key => key is not "op" and not "source"))
            {
                CaseSketch sketch = RandomCases.Make(name, seed).Set(key, "?");
                Assert.That(() => sketch.Parse(), Throws.TypeOf<CaseException>().With.Message.Contains($"'{key}'"), $"{name}, seed {seed}");
            }

            foreach (string tensor in RandomCases.Make(name, seed).Tensors.Keys)
            {
                CaseSketch sketch = RandomCases.Make(name, seed);
                StoredTensor stored = sketch.Tensors[tensor];
                sketch.Add(tensor, [.. stored.Shape, 1]);
                Assert.That(() => sketch.Parse(), Throws.TypeOf<CaseException>().With.Message.Contains(tensor), $"{name}, seed {seed}");
            }
        }
    }
}
