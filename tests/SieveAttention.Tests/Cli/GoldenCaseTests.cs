using System.Globalization;
using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary>Every golden case through the tool: all results of both passes, in shape, type and value.</summary>
public sealed class GoldenCaseTests
{
    private static IEnumerable<string> Names => TestData.GoldenNames;

    [Test]
    public void There_is_a_golden_case_of_every_operator()
    {
        string[] operators = [.. Names.Select(name => name[..name.IndexOf('-', StringComparison.Ordinal)]).Distinct()];
        Assert.That(operators, Is.EquivalentTo(new[] { "softmax", "tda", "diff", "diff_v2", "ssa", "entmax", "support_basis" }));
    }

    [TestCaseSource(nameof(Names))]
    public void The_reference_reproduces(string name) => Reproduces(name, AttentionDevice.Reference, 1e-9, 1e-8);

    [TestCaseSource(nameof(Names))]
    public void The_cpu_reproduces(string name) => Reproduces(name, AttentionDevice.Cpu, 2e-4, 1e-3);

    /// <summary>Tolerances are relative to the largest magnitude, or to that of cancelling terms where the file records it.</summary>
    private static void Reproduces(string name, AttentionDevice device, double tolerance, double gradientTolerance)
    {
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of(
            "attend", TestData.Golden(name), "--device", device.Name, "--backward", "--out", folder["r.safetensors"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);

        SafeTensorsFile result = SafeTensorsReader.Read(folder["r.safetensors"]);
        SafeTensorsFile expected = SafeTensorsReader.Read(TestData.Golden($"{name}.expected"));
        TensorType type = device.Kind == AttentionDeviceKind.Reference ? TensorType.Float64 : TensorType.Float32;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(result.Tensors.Keys, Is.EquivalentTo(expected.Tensors.Keys));
            Assert.That(result.Metadata["format"], Is.EqualTo("sieve-result/1"));
            Assert.That(result.Metadata["op"], Is.EqualTo(name[..name.IndexOf('-', StringComparison.Ordinal)]));
            Assert.That(result.Metadata["device"], Is.EqualTo(device.Name));
            foreach ((string tensor, StoredTensor exact) in expected.Tensors)
            {
                StoredTensor found = result.Tensors[tensor];
                Assert.That(found.Shape, Is.EqualTo(exact.Shape), tensor);
                Assert.That(found.Type, Is.EqualTo(exact.Type == TensorType.Int32 ? TensorType.Int32 : type), tensor);
                double[] values = exact.ToDoubles();
                string magnitude = expected.Metadata.GetValueOrDefault($"magnitude.{tensor}", "0");
                double unit = Math.Max(double.Parse(magnitude, CultureInfo.InvariantCulture), ErrorStatistics.Largest(values));
                double allowed = exact.Type == TensorType.Int32 ? 0 : unit * (tensor[0] == 'd' ? gradientTolerance : tolerance);
                Assert.That(ErrorStatistics.Compare(found.ToDoubles(), values).MaxAbsolute, Is.LessThanOrEqualTo(allowed), tensor);
            }
        }
    }
}
