using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary><c>sieve attend</c> from command line to result file.</summary>
public sealed class AttendCommandTests
{
    [TestCase("tda-causal", "reference", 1e-9, 1e-8)]
    [TestCase("tda-gqa-norm", "reference", 1e-9, 1e-8)]
    [TestCase("tda-causal", "cpu", 2e-4, 1e-3)]
    [TestCase("tda-gqa-norm", "cpu", 2e-4, 1e-3)]
    public void Golden_cases_reproduce(string name, string device, double tolerance, double gradientTolerance)
    {
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("attend", TestData.Golden(name), "--device", device, "--backward", "--out", folder["r.safetensors"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);

        SafeTensorsFile result = SafeTensorsReader.Read(folder["r.safetensors"]);
        SafeTensorsFile expected = SafeTensorsReader.Read(TestData.Golden($"{name}.expected"));
        TensorType type = device == "reference" ? TensorType.Float64 : TensorType.Float32;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(result.Tensors.Keys, Is.EquivalentTo(expected.Tensors.Keys));
            Assert.That(result.Metadata["format"], Is.EqualTo("sieve-result/1"));
            Assert.That(result.Metadata["op"], Is.EqualTo("tda"));
            Assert.That(result.Metadata["device"], Is.EqualTo(device));
            foreach ((string tensor, StoredTensor exact) in expected.Tensors)
            {
                StoredTensor found = result.Tensors[tensor];
                Assert.That(found.Shape, Is.EqualTo(exact.Shape), tensor);
                Assert.That(found.Type, Is.EqualTo(exact.Type == TensorType.Int32 ? TensorType.Int32 : type), tensor);
                double allowed = exact.Type == TensorType.Int32 ? 0 : tensor[0] == 'd' ? gradientTolerance : tolerance;
                ErrorStatistics error = ErrorStatistics.Compare(found.ToDoubles(), exact.ToDoubles());
                Assert.That(error.Relative, Is.LessThanOrEqualTo(allowed), tensor);
            }
        }
    }

    [Test]
    public void Two_runs_write_the_same_bytes()
    {
        using ScratchFolder folder = new();
        foreach (string name in new[] { "a", "b" })
        {
            ToolRun.Of("attend", TestData.Golden("tda-causal"), "--device=cpu", $"--out={folder[name]}");
        }
        Assert.That(File.ReadAllBytes(folder["a"]), Is.EqualTo(File.ReadAllBytes(folder["b"])));
    }

    [Test]
    public void Without_backward_there_are_outputs_only()
    {
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("attend", TestData.Golden("tda-causal"), "--device", "reference", "--out", folder["r"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(SafeTensorsReader.Read(folder["r"]).Tensors.Keys, Is.EquivalentTo(new[] { "out", "survivors1", "survivors2" }));
            Assert.That(run.Out, Does.Contain($"written to {folder["r"]}"));
        }
    }

    [Test]
    public void Without_out_a_summary_is_shown()
    {
        ToolRun run = ToolRun.Of("attend", TestData.Golden("tda-gqa-norm"));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok));
            Assert.That(run.Error, Is.Empty);
            Assert.That(run.Out, Does.Contain("cpu: "));
            Assert.That(run.Out, Does.Contain("beta 0.9  kappa 1  lambda 0.5  power 2  norm rms (eps 1e-5)"));
            Assert.That(run.Out, Does.Contain("survivors1 0.77 a row"));
            Assert.That(run.Out, Does.Contain("[1, 4, 64, 16]"));
        }
    }

    [Test]
    public void Operands_are_rounded_only_when_asked()
    {
        using ScratchFolder folder = new();
        string[] command = ["attend", TestData.Golden("tda-causal"), "--device", "reference", "--out"];
        ToolRun.Of([.. command, folder["exact"]]);
        ToolRun.Of([.. command, folder["rounded"], "--dtype", "bf16"]);
        double[] exact = SafeTensorsReader.Read(folder["exact"]).Tensors["out"].ToDoubles();
        double[] rounded = SafeTensorsReader.Read(folder["rounded"]).Tensors["out"].ToDoubles();
        Assert.That(ErrorStatistics.Compare(rounded, exact).Relative, Is.InRange(1e-5, 0.1));
    }

    [Test]
    public void A_row_without_a_visible_key_is_zero_with_zero_gradients()
    {
        using ScratchFolder folder = new();
        CaseSketch sketch = new CaseSketch().Set("query_offset", "-2").Add("gate", 1, 2, 3).Add("dout", 1, 2, 3, 3);
        string path = sketch.Set("norm", "rms").Set("norm_eps", "1e-6").Write(folder["case"]);
        foreach (string device in new[] { "reference", "cpu" })
        {
            ToolRun run = ToolRun.Of("attend", path, "--device", device, "--backward", "--out", folder["r"]);
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
            SafeTensorsFile result = SafeTensorsReader.Read(folder["r"]);
            using (Assert.EnterMultipleScope())
            {
                Assert.That(result.Tensors["out"].ToDoubles()[..6], Is.All.Zero, device);
                Assert.That(result.Tensors["dq1"].ToDoubles()[..4], Is.All.Zero, device);
                Assert.That(result.Tensors["dgate"].Shape, Is.EqualTo(new[] { 1, 2, 3 }), device);
                IEnumerable<double> all = result.Tensors.Values.SelectMany(tensor => tensor.ToDoubles());
                Assert.That(all, Is.All.Matches<double>(double.IsFinite), device);
            }
        }
    }

    [Test]
    public void Bad_input_leaves_no_file()
    {
        using ScratchFolder folder = new();
        string path = new CaseSketch().Set("kappa", "0").Write(folder["case"]);
        ToolRun.Of("attend", path, "--out", folder["r"]).AssertRefused("sieve attend: ", "metadata 'kappa'", "'0'", "> 0");
        Assert.That(folder.FileNames, Is.EqualTo(new[] { "case" }));
    }

    [Test]
    public void Backward_needs_the_upstream_gradient()
    {
        using ScratchFolder folder = new();
        string path = new CaseSketch().Write(folder["case"]);
        ToolRun.Of("attend", path, "--backward", "--out", folder["r"]).AssertRefused("tensor 'dout'", "--backward");
        Assert.That(folder.FileNames, Is.EqualTo(new[] { "case" }));
    }

    [Test]
    public void An_output_that_cannot_be_written_is_refused_before_the_work()
    {
        using ScratchFolder folder = new();
        string path = new CaseSketch().Write(folder["case"]);
        using (Assert.EnterMultipleScope())
        {
            ToolRun.Of("attend", path, "--out", folder["."]).AssertRefused("--out", "directory");
            ToolRun.Of("attend", path, "--out", Path.Combine(folder["none"], "r")).AssertRefused("--out", "exists");
            ToolRun.Of("attend", path, "--out", "/dev/null").AssertRefused("--out", "/dev/null");
            ToolRun.Of("attend", path, "--out", "").AssertRefused("--out");
            ToolRun.Of("attend", path, "--out", path).AssertRefused("--out", "the case itself");
            Assert.That(folder.FileNames, Is.EqualTo(new[] { "case" }));
        }
    }

    [TestCase("gpu")]
    [TestCase("cuda:x")]
    [TestCase("CPU")]
    [TestCase("")]
    public void An_unknown_device_is_refused(string device)
    {
        ToolRun.Of("attend", TestData.Golden("tda-causal"), $"--device={device}").AssertRefused($"'{device}'", "cuda:N");
    }

    [Test]
    public void A_gpu_that_is_not_there_is_refused_with_the_reason()
    {
        if (CudaDevice.IsAvailable(out _))
        {
            Assert.Ignore("This machine has a GPU.");
        }
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("attend", TestData.Golden("tda-causal"), "--device", "cuda", "--dtype", "bf16", "--out", folder["r"]);
        run.AssertRefused("sieve attend: ");
        Assert.That(folder.FileNames, Is.Empty);
    }

    [Test]
    [Category("Gpu")]
    public void A_gpu_takes_other_types_only_when_asked_to_round_them()
    {
        if (!CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore(reason);
        }
        ToolRun.Of("attend", TestData.Golden("tda-causal"), "--device", "cuda").AssertRefused("--dtype", "F32", "bf16|fp16");
    }

    [Test]
    [Category("Gpu")]
    public void A_gpu_attends_to_the_real_case()
    {
        if (!CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore(reason);
        }
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("attend", TestData.Real("threshold-differential"), "--device", "cuda", "--out", folder["r"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        SafeTensorsFile result = SafeTensorsReader.Read(folder["r"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(result.Metadata["device"], Is.EqualTo("cuda:0"));
            Assert.That(result.Tensors["out"].Type, Is.EqualTo(TensorType.Float32));
        }
    }
}
