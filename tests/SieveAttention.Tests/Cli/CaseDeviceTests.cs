using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Output;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary>
/// Cases of every operator with odd sizes, several batch entries, shared key heads and all kinds of masks: the Cpu device within its
/// tolerances of the reference, forward and backward.
/// </summary>
public sealed class CaseDeviceTests
{
    private static IEnumerable<string> Names => Cases().Select(entry => entry.Name);

    private static IEnumerable<(string Name, CaseSketch Sketch)> Cases()
    {
        foreach (string name in new[] { "softmax", "entmax", "support_basis", "tda", "diff", "diff_v2" })
        {
            yield return ($"{name}, causal", Sketch(name));
            yield return ($"{name}, rows without keys", Sketch(name).Set("query_offset", "-5"));
            yield return ($"{name}, past the keys, window", Sketch(name).Set("query_offset", "40").Set("window", "9"));
            yield return ($"{name}, window both ways", Sketch(name).Set("causal", "false").Set("window", "70"));
            yield return ($"{name}, all keys", Sketch(name).Set("causal", "false"));
        }
        foreach (string name in new[] { "softmax", "entmax" })
        {
            yield return ($"{name}, ssmax", Sketch(name).Set("row_factor", "ssmax").Set("row_s", "0.6"));
            yield return ($"{name}, asentmax",
                Sketch(name).Set("row_factor", "asentmax").Set("row_beta", "0.5").Set("row_gamma", "0.7").Set("query_offset", "-3"));
        }
        foreach (string alpha in new[] { "1.2", "1.5", "1.8", "2" })
        {
            yield return ($"entmax, alpha {alpha}", Sketch("entmax").Set("alpha", alpha));
        }
        foreach (string power in new[] { "1", "1.5", "3" })
        {
            yield return ($"tda, power {power}", Sketch("tda").Set("power", power).Set("kappa", "3").Set("lambda", "-0.6"));
        }
        foreach (string name in new[] { "tda", "diff" })
        {
            yield return ($"{name}, norm", Sketch(name).Set("norm", "rms").Set("norm_eps", "1e-3").Set("output_scale", "-0.4")
                .Set("lambda", "0.8").Add("norm_gain", TensorType.Float32, 13));
        }
        yield return ("diff_v2, two signals", Grouped(6, 2, 2));
        yield return ("diff_v2, groups on several key heads", Grouped(6, 1, 2));
        foreach (string selection in new[] { "exact", "released" })
        {
            foreach (string stream in new[] { "sparse", "full", "both" })
            {
                yield return ($"ssa, {selection}, {stream}", Sparse(stream).Set("selection", selection).Set("alignment_weight", "200"));
            }
        }
        yield return ("ssa, ungated", Sparse("both").Set("alignment", "ungated").Set("alignment_weight", "200").Set("query_offset", "3"));
    }

    [TestCaseSource(nameof(Names))]
    public void The_cpu_agrees_with_the_reference(string name)
    {
        AttentionCase parsed = Cases().First(entry => entry.Name == name).Sketch.Parse();
        using Progress progress = new(TextWriter.Null, ProgressStyle.None, 1);
        using DeviceList devices = DeviceList.Named("cpu");
        VerificationRow[] rows = [.. new Verifier(parsed, null, [], progress).Run(devices).Where(row => row.Device == "cpu")];
        using (Assert.EnterMultipleScope())
        {
            Assert.That(rows, Has.Length.GreaterThanOrEqualTo(5), "outputs and gradients");
            foreach (VerificationRow row in rows)
            {
                Assert.That(row.Verdict, Is.EqualTo(Verdict.Passed), $"{row.Tensor}: {row.Error} {row.Tolerance} {row.Note}");
            }
        }
    }

    private static CaseSketch Sketch(string name)
    {
        if (name == "diff_v2")
        {
            return Grouped(4, 1, 2);
        }
        CaseSketch sketch = CaseSketch.Of(name).Add("gate", TensorType.Float32, 2, 4, 67).Add("dout", TensorType.Float32, 2, 4, 67, 13);
        string[] views = name is "tda" or "diff" ? ["1", "2"] : [""];
        foreach (string view in views)
        {
            sketch.Add($"q{view}", TensorType.Float32, 2, 4, 67, 10).Add($"k{view}", TensorType.Float32, 2, 2, 83, 10);
        }
        sketch.Add("v", TensorType.Float32, 2, 2, 83, 13);
        return name == "tda" ? sketch.Set("beta", "0.7").Set("lambda", "0.4") : sketch.Set("scale", name == "support_basis" ? "1" : "5");
    }

    private static CaseSketch Grouped(int queryHeads, int signals, int keyHeads)
    {
        int heads = queryHeads / (signals + 1) * signals;
        return CaseSketch.Of("diff_v2").Set("signals", FormattableString.Invariant($"{signals}")).Set("scale", "5")
            .Add("q", TensorType.Float32, 2, queryHeads, 67, 10).Add("k", TensorType.Float32, 2, keyHeads, 83, 10)
            .Add("v", TensorType.Float32, 2, keyHeads, 83, 13).Add("lambda_logit", TensorType.Float32, 2, heads, 67)
            .Add("gate", TensorType.Float32, 2, heads, 67).Add("dout", TensorType.Float32, 2, heads, 67, 13);
    }

    private static CaseSketch Sparse(string stream)
    {
        CaseSketch sketch = Sketch("ssa").Set("block_size", "4").Set("block_count", "3").Set("stream", stream);
        return stream != "both"
            ? sketch
            : sketch.Remove("dout").Add("dout_sparse", TensorType.Float32, 2, 4, 67, 13).Add("dout_full", TensorType.Float32, 2, 4, 67, 13);
    }
}
