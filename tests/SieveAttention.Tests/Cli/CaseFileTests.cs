using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Cases.Operators;

namespace SieveAttention.Tests.Cli;

/// <summary>The metadata and tensors of a case: defaults, limits, and what is not known.</summary>
public sealed class CaseFileTests
{
    [Test]
    public void Absent_keys_have_their_defaults()
    {
        ThresholdDifferentialCase parsed = (ThresholdDifferentialCase)new CaseSketch().Set("lambda", null).Parse();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(parsed.Options.Beta, Is.EqualTo(1));
            Assert.That(parsed.Options.Kappa, Is.EqualTo(1));
            Assert.That(parsed.Options.Lambda, Is.Zero);
            Assert.That(parsed.Options.Power, Is.EqualTo(2));
            Assert.That(parsed.Options.Epilogue, Is.EqualTo(new OutputEpilogue()));
            Assert.That(parsed.Options.Mask, Is.EqualTo(AttentionMask.CausalMask));
            Assert.That(parsed.Problem, Is.EqualTo(new AttentionProblem(1, 2, 1, 3, 4, 2, 3, true, 1, 0)));
            Assert.That(parsed.HasOutputGradient, Is.False);
        }
    }

    [Test]
    public void Every_key_is_read()
    {
        ThresholdDifferentialCase parsed = (ThresholdDifferentialCase)new CaseSketch()
            .Set("source", "anything at all").Set("causal", "false").Set("query_offset", "-2").Set("window", "3")
            .Set("beta", "-0.5").Set("kappa", "2.5").Set("lambda", "1.5").Set("power", "1.25")
            .Set("norm", "rms").Set("norm_eps", "1e-5").Set("output_scale", "0")
            .Add("norm_gain", 3).Add("gate", 1, 2, 3).Add("dout", 1, 2, 3, 3).Parse();
        ThresholdDifferentialOptions expected = new()
        {
            Beta = -0.5,
            Kappa = 2.5,
            Lambda = 1.5,
            Power = 1.25,
            Mask = new AttentionMask { Causal = false, QueryOffset = -2, Window = 3 },
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0 },
        };
        using (Assert.EnterMultipleScope())
        {
            Assert.That(parsed.Options, Is.EqualTo(expected));
            Assert.That(parsed.Problem, Is.EqualTo(new AttentionProblem(1, 2, 1, 3, 4, 2, 3, false, -2, 3)));
            Assert.That(parsed.HasOutputGradient, Is.True);
            Assert.That(parsed.Inputs.Has("gate"), Is.True);
            Assert.That(parsed.Inputs.Has("norm_gain"), Is.True);
        }
    }

    [TestCase("format", null, "sieve-case/1")]
    [TestCase("format", "sieve-case/2", "sieve-case/1")]
    [TestCase("format", "sieve-result/1", "sieve-case/1")]
    [TestCase("op", null, "tda")]
    [TestCase("op", "TDA", "softmax, tda, diff, diff_v2, ssa, entmax, support_basis")]
    [TestCase("causal", "True", "true, false")]
    [TestCase("causal", "1", "true, false")]
    [TestCase("causal", "", "true, false")]
    [TestCase("query_offset", "1.0", "an integer from")]
    [TestCase("query_offset", "99999999999999999999", "an integer from")]
    [TestCase("window", "0", "an integer from 1")]
    [TestCase("window", "-1", "an integer from 1")]
    [TestCase("window", "2.5", "an integer from 1")]
    [TestCase("beta", "nan", "plain decimal")]
    [TestCase("beta", "1e999", "finite")]
    [TestCase("beta", " 1", "plain decimal")]
    [TestCase("lambda", "inf", "plain decimal")]
    [TestCase("lambda", "0x1", "plain decimal")]
    [TestCase("kappa", "0", "> 0")]
    [TestCase("kappa", "-1", "> 0")]
    [TestCase("kappa", "1e-400", "> 0")]
    [TestCase("power", "0.999", ">= 1")]
    [TestCase("norm", "RMS", "none, rms")]
    [TestCase("norm", "rms", "", "norm_eps")]
    [TestCase("norm_eps", "1e-5", "norm = rms only")]
    [TestCase("output_scale", "one", "plain decimal")]
    [TestCase("scale", "1", "beta")]
    [TestCase("row_factor", "none", "beta")]
    [TestCase("alpha", "1.5", "beta")]
    [TestCase("Beta", "1", "beta")]
    [TestCase("", "1", "beta")]
    public void A_bad_value_is_refused_with_its_key(string key, string? value, string allowed, string? named = null)
    {
        string message = Refusal(new CaseSketch().Set(key, value));
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

    [TestCase("-0.1")]
    [TestCase("nan")]
    public void A_bad_epsilon_is_refused(string value)
    {
        Assert.That(
            Refusal(new CaseSketch().Set("norm", "rms").Set("norm_eps", value)),
            Does.Contain("metadata 'norm_eps'").And.Contain($"'{value}'").And.Contain(">= 0"));
    }

    [TestCase("q1")]
    [TestCase("k1")]
    [TestCase("q2")]
    [TestCase("k2")]
    [TestCase("v")]
    public void A_missing_tensor_is_named(string name)
    {
        Assert.That(Refusal(new CaseSketch().Remove(name)), Does.StartWith($"sketch: tensor '{name}': found no such tensor; allowed: "));
    }

    [TestCase("q1", new[] { 1, 2, 3 }, "[B,Hq,Tq,D]")]
    [TestCase("q1", new[] { 2, 2, 3, 2 }, "[2, 1, 4, 2]", "k1")]
    [TestCase("q1", new[] { 1, 2, 3, 3 }, "[1, 1, 4, 3]", "k1")]
    [TestCase("q2", new[] { 1, 2, 3, 1 }, "[1, 2, 3, 2]")]
    [TestCase("q2", new[] { 1, 2, 4, 2 }, "[1, 2, 3, 2]")]
    [TestCase("k2", new[] { 1, 2, 4, 2 }, "[1, 1, 4, 2]")]
    [TestCase("k2", new[] { 1, 1, 4, 2, 1 }, "[1, 1, 4, 2]")]
    [TestCase("v", new[] { 1, 1, 5, 3 }, "[1, 1, 4, 3]")]
    [TestCase("v", new[] { 12 }, "[B,Hkv,Tk,Dv]")]
    [TestCase("dout", new[] { 1, 2, 3, 2 }, "[1, 2, 3, 3]")]
    [TestCase("gate", new[] { 1, 2, 3, 1 }, "[1, 2, 3]")]
    [TestCase("norm_gain", new[] { 1, 3 }, "[3]")]
    public void A_misshapen_tensor_is_named_with_both_shapes(string name, int[] shape, string allowed, string? named = null)
    {
        string message = Refusal(new CaseSketch().Set("norm", "rms").Set("norm_eps", "0").Add(name, shape));
        Assert.That(message, Does.Contain($"tensor '{named ?? name}': found shape").And.Contain($"allowed: shape {allowed}"));
    }

    [Test]
    public void Heads_that_do_not_divide_are_refused()
    {
        CaseSketch sketch = new CaseSketch().Add("q1", 1, 3, 3, 2).Add("k1", 1, 2, 4, 2).Add("v", 1, 2, 4, 3);
        Assert.That(Refusal(sketch), Does.Contain("tensor 'q1': found 3 heads; allowed: a multiple of the 2 heads"));
    }

    [Test]
    public void A_gain_without_a_norm_is_refused()
    {
        Assert.That(Refusal(new CaseSketch().Add("norm_gain", 3)), Does.Contain("tensor 'norm_gain'").And.Contain("norm = rms only"));
    }

    [TestCase("q")]
    [TestCase("lambda_vectors")]
    [TestCase("Q1")]
    [TestCase("")]
    public void An_unknown_tensor_is_refused(string name)
    {
        Assert.That(Refusal(new CaseSketch().Add(name, 1)), Does.Contain($"tensor '{name}'").And.Contain("allowed: q1, k1, v"));
    }

    [TestCase("q1")]
    [TestCase("dout")]
    public void Integers_are_no_input(string name)
    {
        CaseSketch sketch = new();
        sketch.Add(name, TensorType.Int32, name == "q1" ? [1, 2, 3, 2] : [1, 2, 3, 3]);
        Assert.That(Refusal(sketch), Does.Contain($"dtype of tensor '{name}': found I32; allowed: F64, F32, F16, BF16"));
    }

    [Test]
    public void A_value_too_large_for_the_chosen_type_is_refused()
    {
        CaseSketch sketch = new();
        ((float[])sketch.Tensors["k2"].Values)[3] = 70000;
        Assert.That(
            () => sketch.Parse().Rounded(TensorType.Float16),
            Throws.TypeOf<CaseException>().With.Message.Contain("tensor 'k2'").And.Message.Contain("70000").And.Message.Contain("F16"));
    }

    private static string Refusal(CaseSketch sketch) => Assert.Throws<CaseException>(() => sketch.Parse())!.Message;
}
