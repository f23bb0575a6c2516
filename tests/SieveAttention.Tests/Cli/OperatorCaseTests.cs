using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Cases.Operators;
using SieveAttention.Cli.Commands;

namespace SieveAttention.Tests.Cli;

/// <summary>The metadata and tensors of every operator but tda: defaults, limits, combinations, and what is not known.</summary>
public sealed class OperatorCaseTests
{
    [Test]
    public void Absent_keys_have_their_defaults()
    {
        EntmaxOptions entmax = ((EntmaxCase)CaseSketch.Of("entmax").Parse()).Options;
        SupportBasisOptions basis = ((SupportBasisCase)CaseSketch.Of("support_basis").Parse()).Options;
        DifferentialOptions diff = ((DifferentialCase)CaseSketch.Of("diff").Parse()).Options;
        SoftmaxOptions softmax = ((SoftmaxCase)CaseSketch.Of("softmax").Parse()).Options;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(softmax, Is.EqualTo(new SoftmaxOptions()));
            Assert.That(entmax.Alpha, Is.EqualTo(new[] { 1.5 }));
            Assert.That(entmax.Scores, Is.EqualTo(new ScoreOptions()));
            Assert.That(basis, Is.EqualTo(new SupportBasisOptions { Bound = 0.5, Degree = 2, Tile = 64 }));
            Assert.That(diff.Lambda, Is.EqualTo(new[] { 0.25 }));
            Assert.That(diff.LambdaInit, Is.Null);
            Assert.That(diff.Epilogue, Is.EqualTo(new OutputEpilogue()), "output_scale does not come from lambda_init");
            Assert.That(
                ((SparseSparseCase)CaseSketch.Of("ssa").Parse()).Options,
                Is.EqualTo(new SparseSparseOptions { BlockSize = 2, BlockCount = 1 }));
            Assert.That(((GroupedDifferentialCase)CaseSketch.Of("diff_v2").Parse()).Options, Is.EqualTo(new GroupedDifferentialOptions()));
        }
    }

    [TestCase("softmax")]
    [TestCase("diff")]
    [TestCase("diff_v2")]
    [TestCase("entmax")]
    [TestCase("support_basis")]
    public void Mask_scale_gate_and_gradient_are_read(string name)
    {
        AttentionCase parsed = CaseSketch.Of(name).Set("causal", "false").Set("query_offset", "-1").Set("window", "2")
            .Set("scale", "-0.5").Add("gate", 1, 2, 3).Add("dout", 1, 2, 3, 3).Parse();
        ScoreOptions scores = parsed switch
        {
            SoftmaxCase softmax => softmax.Options.Scores,
            DifferentialCase diff => diff.Options.Scores,
            GroupedDifferentialCase grouped => grouped.Options.Scores,
            EntmaxCase entmax => entmax.Options.Scores,
            SupportBasisCase basis => basis.Options.Scores,
            _ => throw new AssertionException(parsed.Operator),
        };
        using (Assert.EnterMultipleScope())
        {
            Assert.That(parsed.Problem.Causal, Is.False);
            Assert.That(parsed.Problem.QueryOffset, Is.EqualTo(-1));
            Assert.That(parsed.Problem.Window, Is.EqualTo(2));
            Assert.That(scores.Scale, Is.EqualTo(-0.5));
            Assert.That(parsed.Inputs.Has("gate"), Is.True);
            Assert.That(parsed.HasOutputGradient, Is.True);
        }
    }

    [Test]
    public void Every_key_of_ssa_is_read()
    {
        AttentionCase parsed = CaseSketch.Of("ssa").Set("block_size", "4").Set("block_count", "3").Set("selection", "released")
            .Set("stream", "both").Set("alignment", "ungated").Set("alignment_weight", "10").Set("scale", "0.25").Set("query_offset", "0")
            .Add("gate", 1, 2, 3).Add("dout_full", 1, 2, 3, 3).Parse();
        SparseSparseOptions expected = new()
        {
            BlockSize = 4,
            BlockCount = 3,
            Selection = BlockSelectionRule.Released,
            Stream = SparseSparseMode.Both,
            Alignment = AlignmentPlacement.Ungated,
            AlignmentWeight = 10,
            Scores = new ScoreOptions { Scale = 0.25 },
            Mask = new AttentionMask { QueryOffset = 0 },
        };
        using (Assert.EnterMultipleScope())
        {
            Assert.That(((SparseSparseCase)parsed).Options, Is.EqualTo(expected));
            Assert.That(parsed.HasOutputGradient, Is.True, "an absent gradient of the other output is 0");
            Assert.That(CaseSketch.Of("ssa").Set("stream", "both").Parse().HasOutputGradient, Is.False);
            Assert.That(CaseSketch.Of("ssa").Set("stream", "both").Set("alignment_weight", "1").Parse().HasOutputGradient, Is.True);
        }
    }

    [TestCase("sparse", "out, lse_sparse, block_indices")]
    [TestCase("full", "out, lse_full")]
    [TestCase("both", "out_sparse, out_full, lse_sparse, lse_full, block_indices, alignment_loss")]
    public void Each_stream_of_ssa_has_its_results(string stream, string names)
    {
        CaseResult result = CaseSketch.Of("ssa").Set("stream", stream).Parse().Forward(AttentionDevice.Reference);
        Assert.That(string.Join(", ", result.Tensors.Select(tensor => tensor.Name)), Is.EqualTo(names));
    }

    [TestCase("softmax")]
    [TestCase("entmax")]
    public void Row_factors_are_read(string name)
    {
        AttentionCase ssmax = CaseSketch.Of(name).Set("row_factor", "ssmax").Set("row_s", "0.4").Parse();
        AttentionCase asentmax = CaseSketch.Of(name)
            .Set("row_factor", "asentmax").Set("row_beta", "0.3").Set("row_gamma", "-1.5").Parse();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(ssmax.Parameters, Does.Contain("row_factor ssmax (s 0.4)"));
            Assert.That(asentmax.Parameters, Does.Contain("row_factor asentmax (beta 0.3, gamma -1.5)"));
        }
    }

    [TestCase("softmax", "row_factor", "SSMax", "none, ssmax, asentmax")]
    [TestCase("softmax", "row_factor", "ssmax", "row_factor = ssmax", "row_s")]
    [TestCase("softmax", "row_factor", "asentmax", "row_factor = asentmax", "row_beta")]
    [TestCase("softmax", "row_s", "1", "row_factor = ssmax only")]
    [TestCase("entmax", "row_gamma", "1", "row_factor = asentmax only")]
    [TestCase("softmax", "scale", "inf", "plain decimal")]
    [TestCase("softmax", "norm", "rms", "scale")]
    [TestCase("softmax", "output_scale", "2", "scale")]
    [TestCase("softmax", "lambda", "2", "scale")]
    [TestCase("softmax", "alpha", "1.5", "scale")]
    [TestCase("diff", "row_factor", "none", "scale")]
    [TestCase("diff", "lambda", null, "lambda_init")]
    [TestCase("diff", "lambda", "nan", "plain decimal")]
    [TestCase("diff", "lambda_init", "0.2", "lambda_vectors")]
    [TestCase("diff", "norm_eps", "1e-5", "norm = rms only")]
    [TestCase("diff", "signals", "1", "scale")]
    [TestCase("diff_v2", "signals", "0", "an integer from 1")]
    [TestCase("diff_v2", "signals", "1.0", "an integer from 1")]
    [TestCase("diff_v2", "norm", "rms", "scale")]
    [TestCase("diff_v2", "row_s", "1", "scale")]
    [TestCase("entmax", "alpha", "1", "> 1 and <= 2")]
    [TestCase("entmax", "alpha", "2.0001", "> 1 and <= 2")]
    [TestCase("entmax", "alpha", "nan", "> 1 and <= 2")]
    [TestCase("support_basis", "bound", null, ">= 0")]
    [TestCase("support_basis", "bound", "-1", ">= 0")]
    [TestCase("support_basis", "degree", "3", "an integer from 1 to 2")]
    [TestCase("support_basis", "tile", "0", "an integer from 1")]
    [TestCase("support_basis", "row_factor", "ssmax", "scale")]
    [TestCase("ssa", "block_size", null, "an integer from 1")]
    [TestCase("ssa", "block_count", null, "an integer from 1")]
    [TestCase("ssa", "block_size", "0", "an integer from 1")]
    [TestCase("ssa", "block_count", "1e1", "an integer from 1")]
    [TestCase("ssa", "selection", "fast", "exact, released")]
    [TestCase("ssa", "stream", "Both", "sparse, full, both")]
    [TestCase("ssa", "alignment", "none", "gated, ungated")]
    [TestCase("ssa", "alignment_weight", "-1", ">= 0")]
    [TestCase("ssa", "causal", "false", "causal")]
    [TestCase("ssa", "window", "4", "no window")]
    [TestCase("ssa", "query_offset", "-1", "0 to 1")]
    [TestCase("ssa", "query_offset", "2", "0 to 1")]
    [TestCase("ssa", "row_factor", "none", "block_size")]
    [TestCase("ssa", "norm", "none", "block_size")]
    public void A_bad_value_is_refused_with_its_key(string name, string key, string? value, string allowed, string? named = null)
    {
        string message = Refusal(CaseSketch.Of(name).Set(key, value));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(message, Does.StartWith($"sketch: metadata '{named ?? key}': found "));
            Assert.That(message, Does.Contain("allowed: ").And.Contain(allowed));
            if (value is not null && named is null)
            {
                Assert.That(message, Does.Contain($"'{value}'"));
            }
        }
    }

    [TestCase("softmax", "q")]
    [TestCase("softmax", "k")]
    [TestCase("softmax", "v")]
    [TestCase("diff", "q2")]
    [TestCase("diff_v2", "lambda_logit")]
    [TestCase("entmax", "k")]
    [TestCase("support_basis", "v")]
    public void A_missing_tensor_is_named(string name, string tensor)
    {
        Assert.That(
            Refusal(CaseSketch.Of(name).Remove(tensor)), Does.StartWith($"sketch: tensor '{tensor}': found no such tensor; allowed: "));
    }

    [TestCase("softmax", "gate", new[] { 1, 2, 3, 1 }, "[1, 2, 3]")]
    [TestCase("diff", "lambda_vectors", new[] { 2, 4 }, "[4, 2]")]
    [TestCase("diff_v2", "lambda_logit", new[] { 1, 4, 3 }, "[1, 2, 3]")]
    [TestCase("diff_v2", "gate", new[] { 1, 4, 3 }, "[1, 2, 3]")]
    [TestCase("diff_v2", "dout", new[] { 1, 4, 3, 3 }, "[1, 2, 3, 3]")]
    [TestCase("entmax", "alpha", new[] { 1 }, "[2]")]
    public void A_misshapen_tensor_is_named_with_both_shapes(string name, string tensor, int[] shape, string allowed)
    {
        Assert.That(
            Refusal(CaseSketch.Of(name).Add(tensor, shape)),
            Does.Contain($"tensor '{tensor}': found shape").And.Contain($"allowed: shape {allowed}"));
    }

    [TestCase("softmax", "norm_gain")]
    [TestCase("softmax", "alpha")]
    [TestCase("diff_v2", "norm_gain")]
    [TestCase("entmax", "q1")]
    [TestCase("support_basis", "lambda_logit")]
    public void An_unknown_tensor_is_refused(string name, string tensor)
    {
        Assert.That(Refusal(CaseSketch.Of(name).Add(tensor, 1)), Does.Contain($"tensor '{tensor}'").And.Contain("allowed: q, k, v"));
    }

    [TestCase("3", "1", "block_size", "a power of two >= 2")]
    [TestCase("1", "1", "block_size", "a power of two >= 2")]
    [TestCase("4", "5", "block_count", "1 to 4")]
    public void The_published_selection_has_limits(string size, string count, string key, string allowed)
    {
        CaseSketch sketch = CaseSketch.Of("ssa").Set("block_size", size).Set("block_count", count);
        Assert.That(() => sketch.Parse(), Throws.Nothing, "the exact one does not");
        Assert.That(Refusal(sketch.Set("selection", "released")), Does.StartWith($"sketch: metadata '{key}'").And.Contain(allowed));
    }

    [TestCase("sparse", "dout_sparse")]
    [TestCase("full", "dout_full")]
    [TestCase("both", "dout")]
    public void A_gradient_of_another_stream_is_refused(string stream, string tensor)
    {
        Assert.That(
            Refusal(CaseSketch.Of("ssa").Set("stream", stream).Add(tensor, 1, 2, 3, 3)), Does.Contain($"tensor '{tensor}'"));
    }

    [Test]
    public void More_queries_than_keys_are_refused_for_ssa()
    {
        Assert.That(Refusal(CaseSketch.Of("ssa").Add("q", 1, 2, 5, 2)), Does.Contain("tensor 'q': found 5 rows; allowed: at most 4"));
    }

    [Test]
    public void Alpha_is_a_number_or_a_tensor()
    {
        CaseSketch sketch = CaseSketch.Of("entmax").Add("alpha", 2);
        SetValues(sketch, "alpha", 1.25f, 2);
        Assert.That(((EntmaxCase)sketch.Parse()).Options.Alpha, Is.EqualTo(new[] { 1.25, 2 }));
        Assert.That(Refusal(sketch.Set("alpha", "1.5")), Does.Contain("metadata 'alpha'").And.Contain("'1.5' beside tensor 'alpha'"));
        SetValues(sketch.Set("alpha", null), "alpha", 1.25f, 1);
        Assert.That(Refusal(sketch), Does.Contain("tensor 'alpha': found the value 1; allowed: values > 1 and <= 2"));
        SetValues(sketch, "alpha", float.NaN, 2);
        Assert.That(Refusal(sketch), Does.Contain("tensor 'alpha': found the value NaN"));
    }

    [Test]
    public void Lambda_vectors_need_their_constant_and_agree_with_a_finished_lambda()
    {
        CaseSketch sketch = CaseSketch.Of("diff").Set("lambda", null).Add("lambda_vectors", 4, 2);
        SetValues(sketch, "lambda_vectors", 1, 0.5f, 0.25f, 0.5f, 0.5f, 0, 0.5f, 1);
        // exp(0.25 + 0.25) - exp(0.25) + 0.2
        double lambda = Math.Exp(0.5) - Math.Exp(0.25) + 0.2;
        Assert.That(Refusal(sketch), Does.StartWith("sketch: metadata 'lambda_init': found no value"));
        sketch.Set("lambda_init", "0.2");
        Assert.That(sketch.Parse().Parameters, Is.EqualTo("lambda from vectors (lambda_init 0.2)"));
        string near = FormattableString.Invariant($"{lambda + 0.9e-4:0.0000000}");
        string far = FormattableString.Invariant($"{lambda + 1.1e-4:0.0000000}");
        Assert.That(() => sketch.Set("lambda", near).Parse(), Throws.Nothing);
        Assert.That(
            Refusal(sketch.Set("lambda", far)),
            Does.StartWith($"sketch: metadata 'lambda': found '{far}'; allowed: 0.56").And.Contain("within 0.0001"));
        SetValues(sketch, "lambda_vectors", 100, 100, 100, 100, 0, 0, 0, 0);
        Assert.That(Refusal(sketch.Set("lambda", null)), Does.Contain("tensor 'lambda_vectors'").And.Contain("a finite lambda"));
    }

    [Test]
    public void Groups_of_heads_must_fit()
    {
        Assert.That(
            Refusal(CaseSketch.Of("diff_v2").Set("signals", "2")),
            Does.Contain("tensor 'q': found 4 heads; allowed: a multiple of 3: 2 signals and their noise"));
    }

    [Test]
    public void A_support_basis_row_without_a_positive_sum_is_refused_and_leaves_no_file()
    {
        using ScratchFolder folder = new();
        CaseSketch sketch = CaseSketch.Of("support_basis").Set("degree", "1").Set("bound", "1000").Set("scale", "1");
        SetValues(sketch, "q", [.. Enumerable.Repeat(-2f, 12)]);
        SetValues(sketch, "k", [.. Enumerable.Repeat(1f, 8)]);
        string path = sketch.Write(folder["case"]);
        ToolRun.Of("attend", path, "--device", "reference", "--out", folder["r"]).AssertRefused("sum to", "positive");
        ToolRun.Of("attend", path, "--device", "cpu", "--out", folder["r"]).AssertRefused("sum", "positive");
        ToolRun.Of("map", path, "--out", folder["r"]).AssertRefused("sum to", "positive");
        Assert.That(folder.FileNames, Is.EqualTo(new[] { "case" }));
    }

    [TestCase("softmax", "lse")]
    [TestCase("diff", "lse1")]
    [TestCase("diff_v2", "lse")]
    public void A_row_without_a_visible_key_is_zero_with_zero_gradients(string name, string logSumExp)
    {
        using ScratchFolder folder = new();
        string path = CaseSketch.Of(name).Set("query_offset", "-2").Add("gate", 1, 2, 3).Add("dout", 1, 2, 3, 3).Write(folder["case"]);
        SafeTensorsFile result = Backward(path, folder);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(result.Tensors["out"].ToDoubles()[..6], Is.All.Zero);
            Assert.That(result.Tensors[logSumExp].ToDoubles()[..2], Is.All.EqualTo(double.NegativeInfinity));
            Assert.That(result.Tensors[name == "diff" ? "dq1" : "dq"].ToDoubles()[..4], Is.All.Zero);
            IEnumerable<double> gradients = result.Tensors.Where(entry => entry.Key[0] == 'd').SelectMany(entry => entry.Value.ToDoubles());
            Assert.That(gradients, Is.All.Matches<double>(double.IsFinite));
        }
    }

    [Test]
    public void Gradients_of_parameters_have_the_shape_in_which_these_were_given()
    {
        using ScratchFolder folder = new();
        CaseSketch perHead = CaseSketch.Of("entmax").Add("alpha", 2).Add("dout", 1, 2, 3, 3);
        SetValues(perHead, "alpha", 1.25f, 1.75f);
        perHead.Set("row_factor", "asentmax").Set("row_beta", "0.3").Set("row_gamma", "0.5");
        CaseSketch vectors = CaseSketch.Of("diff").Set("lambda_init", "0.2").Set("lambda", null)
            .Add("lambda_vectors", 4, 2).Add("dout", 1, 2, 3, 3);
        IReadOnlyDictionary<string, StoredTensor> entmax = Backward(perHead.Write(folder["a"]), folder).Tensors;
        IReadOnlyDictionary<string, StoredTensor> diff = Backward(vectors.Write(folder["b"]), folder).Tensors;
        IReadOnlyDictionary<string, StoredTensor> plain = Backward(
            CaseSketch.Of("entmax").Add("dout", 1, 2, 3, 3).Write(folder["c"]), folder).Tensors;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(entmax["dalpha"].Shape, Is.EqualTo(new[] { 2 }));
            Assert.That(entmax["drow_beta"].Shape, Is.EqualTo(new[] { 1 }));
            Assert.That(entmax["drow_gamma"].Shape, Is.EqualTo(new[] { 1 }));
            Assert.That(plain["dalpha"].Shape, Is.EqualTo(new[] { 1 }), "alpha kept its default");
            Assert.That(diff["dlambda_vectors"].Shape, Is.EqualTo(new[] { 4, 2 }));
            Assert.That(diff.Keys, Does.Not.Contain("dlambda"));
        }
    }

    private static SafeTensorsFile Backward(string path, ScratchFolder folder)
    {
        ToolRun run = ToolRun.Of("attend", path, "--device", "reference", "--backward", "--out", folder["r"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        return SafeTensorsReader.Read(folder["r"]);
    }

    private static void SetValues(CaseSketch sketch, string tensor, params float[] values) =>
        values.CopyTo((float[])sketch.Tensors[tensor].Values, 0);

    private static string Refusal(CaseSketch sketch) => Assert.Throws<CaseException>(() => sketch.Parse())!.Message;
}
