using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary><c>sieve attend</c> from command line to result file.</summary>
public sealed class AttendCommandTests
{
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

    [Test]
    public void Statistics_of_few_pairs_are_shown_unasked()
    {
        ToolRun run = ToolRun.Of("attend", TestData.Golden("tda-gqa-norm"), "--device", "reference");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
            Assert.That(
                run.Out,
                Does.Match(@"weights: 95\.421 % exactly 0; support 1\.4883 keys a row \(largest 4, none in 12\.109 % of rows\)"));
            Assert.That(run.Out, Does.Contain("; key 0 has ").And.Contain(" nats ("));
        }
    }

    [Test]
    public void Weights_that_do_not_exist_are_explained()
    {
        using ScratchFolder folder = new();
        CaseSketch sketch = CaseSketch.Of("diff_v2").Add("k", 1, 2, 4, 2).Add("v", 1, 2, 4, 3).Add("q", 1, 6, 3, 2);
        string path = sketch.Set("signals", "1").Add("lambda_logit", 1, 3, 3).Write(folder["case"]);
        ToolRun run = ToolRun.Of("attend", path, "--device", "reference");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
            Assert.That(run.Out, Does.Contain("weights: no single weight for each key"));
            ToolRun.Of("map", path, "--out", folder["m.png"]).AssertRefused("no single weight for each key");
            Assert.That(folder.FileNames, Is.EqualTo(new[] { "case" }));
        }
    }
}
