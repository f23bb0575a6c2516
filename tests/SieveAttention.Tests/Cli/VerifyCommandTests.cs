using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;

namespace SieveAttention.Tests.Cli;

/// <summary><c>sieve verify</c>: the table, the tolerances and the exit code.</summary>
public sealed class VerifyCommandTests
{
    [Test]
    public void Golden_and_real_cases_pass()
    {
        ToolRun run = ToolRun.Of(
            "verify", TestData.Golden("tda-causal"), TestData.Golden("tda-gqa-norm"), TestData.Real("threshold-differential"));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Out);
            Assert.That(run.Error, Is.Empty);
            Assert.That(run.Out, Does.Contain("0 beyond"));
            Assert.That(run.Out, Does.Contain("against the expected file"));
            Assert.That(run.Out, Does.Match(@"cpu +F32 +dlambda .* ok"));
            Assert.That(run.Out, Does.Contain("no expected tensors beside the case"));
        }
    }

    [TestCase("softmax")]
    [TestCase("differential")]
    [TestCase("sparse-sparse")]
    public void Real_cases_of_other_operators_pass_on_the_cpu(string name)
    {
        ToolRun run = ToolRun.Of("verify", TestData.Real(name), "--device", "cpu");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Out + run.Error);
            Assert.That(run.Out, Does.Match("cpu +F32 +out .* ok"));
            Assert.That(run.Out, Does.Contain(" 0 beyond"));
        }
    }

    [Test]
    public void A_missing_gpu_is_listed_with_the_reason()
    {
        if (CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore("This machine has a GPU.");
        }
        ToolRun run = ToolRun.Of("verify", TestData.Golden("tda-causal"));
        Assert.That(run.Out, Does.Contain($"cuda: absent: {SieveAttention.Cli.Text.OneLine(reason)}"));
    }

    [Test]
    public void Expected_tensors_that_differ_fail_with_exit_code_1()
    {
        using ScratchFolder folder = new();
        SafeTensorsFile expected = CopyGolden(folder);
        double[] values = expected.Tensors["out"].ToDoubles();
        values[7] *= 1 + 1e-6;
        WriteExpected(folder, expected);
        ToolRun run = ToolRun.Of("verify", folder["case.safetensors"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.VerificationFailed));
            Assert.That(run.Out, Does.Match(@"reference +F64 +out .* FAIL"));
            Assert.That(run.Out, Does.Contain("1 beyond"));
        }
    }

    [Test]
    public void A_survivor_too_many_fails()
    {
        using ScratchFolder folder = new();
        SafeTensorsFile expected = CopyGolden(folder);
        ((int[])expected.Tensors["survivors2"].Values)[11]++;
        WriteExpected(folder, expected);
        ToolRun run = ToolRun.Of("verify", folder["case.safetensors"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.VerificationFailed));
            Assert.That(run.Out, Does.Match(@"reference +F64 +survivors2 .* FAIL"));
        }
    }

    [Test]
    public void An_expected_tensor_that_is_not_computed_fails()
    {
        using ScratchFolder folder = new();
        SafeTensorsFile expected = CopyGolden(folder);
        Dictionary<string, StoredTensor> tensors = new(expected.Tensors) { ["lse"] = new StoredTensor("lse", [1], new[] { 0.0 }) };
        WriteExpected(folder, expected with { Tensors = tensors });
        ToolRun run = ToolRun.Of("verify", folder["case.safetensors"], "--device", "reference");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.VerificationFailed));
            Assert.That(run.Out, Does.Match(@"lse .* FAIL +expected with shape \[1\], not computed"));
        }
    }

    [Test]
    public void A_pattern_that_finds_expected_files_means_their_cases()
    {
        ToolRun run = ToolRun.Of(
            "verify", TestData.Golden("tda-causal.expected"), TestData.Golden("tda-causal"), "--device", "reference");
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
    }

    [Test]
    public void An_expected_file_alone_is_no_case()
    {
        ToolRun.Of("verify", TestData.Golden("tda-causal.expected")).AssertRefused("metadata 'format'", "sieve-case/1");
    }

    [Test]
    public void A_bad_case_stops_before_any_table()
    {
        using ScratchFolder folder = new();
        string bad = new CaseSketch().Set("power", "0").Write(folder["bad"]);
        ToolRun.Of("verify", TestData.Golden("tda-causal"), bad).AssertRefused("metadata 'power'");
    }

    [Test]
    public void Named_devices_are_the_only_ones()
    {
        ToolRun run = ToolRun.Of("verify", TestData.Golden("tda-causal"), "--device", "cpu");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Out, Does.Match(@"cpu +F32 +out"));
            Assert.That(run.Out, Does.Not.Contain("cuda"));
            ToolRun.Of("verify", TestData.Golden("tda-causal"), "--device", "cpu,tpu").AssertRefused("'tpu'");
        }
    }

    [Test]
    public void Progress_is_written_as_lines_when_asked()
    {
        ToolRun run = ToolRun.Of("verify", TestData.Golden("tda-causal"), "--device", "cpu", "--progress");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Error, Does.StartWith("[1/4] tda-causal: reference ("));
            Assert.That(run.Error, Does.Contain("[4/4] tda-causal: cpu, backward"));
        }
    }

    [Test]
    [Category("Gpu")]
    public void A_gpu_that_cannot_run_a_case_is_listed_or_refused_where_it_was_asked_for()
    {
        if (!CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore(reason);
        }
        ToolRun all = ToolRun.Of("verify", TestData.Golden("tda-gqa-norm"));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(all.Code, Is.EqualTo(ExitCode.Ok), all.Out);
            Assert.That(all.Out, Does.Match(@"cuda:0 +BF16 +- .*head_dim"));
        }
        ToolRun named = ToolRun.Of("verify", TestData.Golden("tda-gqa-norm"), "--device", "cuda");
        named.AssertRefused("--device", "cuda:0 does not run", "head_dim");
    }

    [Test]
    [Category("Gpu")]
    public void The_real_case_passes_on_a_gpu_in_both_types()
    {
        if (!CudaDevice.IsAvailable(out string reason))
        {
            Assert.Ignore(reason);
        }
        ToolRun run = ToolRun.Of("verify", TestData.Real("threshold-differential"), "--device", "cuda");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Out);
            Assert.That(run.Out, Does.Match(@"cuda:0 +BF16 +out .* ok"));
            Assert.That(run.Out, Does.Match(@"cuda:0 +F16 +out .* ok"));
        }
    }

    private static SafeTensorsFile CopyGolden(ScratchFolder folder)
    {
        File.Copy(TestData.Golden("tda-causal"), folder["case.safetensors"]);
        return SafeTensorsReader.Read(TestData.Golden("tda-causal.expected"));
    }

    private static void WriteExpected(ScratchFolder folder, SafeTensorsFile expected) =>
        SafeTensorsWriter.Write(folder["case.expected.safetensors"], expected.Metadata, expected.Tensors.Values);
}
