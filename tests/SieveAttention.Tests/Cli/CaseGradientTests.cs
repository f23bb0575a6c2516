using System.Globalization;
using NUnit.Framework;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Cli;

/// <summary>
/// Every gradient that a case returns, under its name in the result file, against central differences of the outputs that the same case
/// gives with one number of its file changed.
/// </summary>
public sealed class CaseGradientTests
{
    private const double Step = 1e-5;

    /// <summary>Metadata whose gradients are results; other gradients are those of tensors.</summary>
    private static readonly Dictionary<string, double> s_scalarDefaults = new()
    {
        ["alpha"] = 1.5, ["beta"] = 1, ["kappa"] = 1, ["lambda"] = 0, ["row_s"] = 0, ["row_beta"] = 0, ["row_gamma"] = 0,
    };

    private static IEnumerable<string> Names => Cases().Select(entry => entry.Name);

    private static IEnumerable<(string Name, CaseSketch Sketch)> Cases()
    {
        yield return ("softmax, ssmax", Single("softmax").Set("row_factor", "ssmax").Set("row_s", "0.7"));
        yield return ("softmax, asentmax, offset",
            Single("softmax").Set("row_factor", "asentmax").Set("row_beta", "0.4").Set("row_gamma", "-0.6").Set("query_offset", "-1"));
        yield return ("softmax, window, scale", Single("softmax").Set("causal", "false").Set("window", "3").Set("scale", "-1.5"));
        yield return ("entmax, defaults", Single("entmax"));
        yield return ("entmax, asentmax", Single("entmax").Set("alpha", "1.3").Set("row_factor", "asentmax")
            .Set("row_beta", "0.4").Set("row_gamma", "0.6"));
        CaseSketch perHead = Single("entmax").Set("scale", "2").Add("alpha", TensorType.Float64, 4);
        new[] { 1.25, 1.5, 1.75, 1.9 }.CopyTo(perHead.Tensors["alpha"].Values, 0);
        yield return ("entmax, alpha of each head", perHead);
        yield return ("support_basis, degree 1", Single("support_basis").Set("bound", "0.3").Set("tile", "3").Set("degree", "1"));
        yield return ("support_basis, not causal", Single("support_basis").Set("bound", "0.5").Set("tile", "4").Set("causal", "false"));
        yield return ("tda", Double("tda").Set("lambda", "0.4").Set("beta", "0.3").Set("power", "3"));
        yield return ("diff, lambda", Double("diff").Set("lambda", "-0.7").Set("query_offset", "0"));
        yield return ("diff, vectors and norm", Double("diff").Set("lambda", null).Set("lambda_init", "0.3")
            .Set("norm", "rms").Set("norm_eps", "1e-3").Set("output_scale", "0.7")
            .Add("norm_gain", TensorType.Float64, 3).Add("lambda_vectors", TensorType.Float64, 4, 2));
        yield return ("diff_v2, one signal, groups on one key head", Grouped(6, 1, 3));
        yield return ("diff_v2, two signals", Grouped(6, 2, 2));
        yield return ("diff_v2, groups on several key heads", Grouped(6, 1, 2));
        foreach (string stream in new[] { "sparse", "full" })
        {
            yield return ($"ssa, {stream}", Single("ssa").Set("stream", stream).Set("block_count", "2"));
        }
        CaseSketch both = Single("ssa").Remove("dout").Set("stream", "both").Set("alignment_weight", "40")
            .Add("dout_sparse", TensorType.Float64, 1, 4, 5, 3).Add("dout_full", TensorType.Float64, 1, 4, 5, 3);
        yield return ("ssa, both", both);
        yield return ("ssa, ungated, released, one gradient", Single("ssa").Remove("dout").Set("stream", "both")
            .Set("alignment_weight", "40").Set("alignment", "ungated").Set("selection", "released")
            .Add("dout_sparse", TensorType.Float64, 1, 4, 5, 3));
    }

    [TestCaseSource(nameof(Names))]
    public void Gradients_agree_with_central_differences(string name)
    {
        CaseSketch sketch = Cases().First(entry => entry.Name == name).Sketch;
        CaseResult gradients = sketch.Parse().Backward(AttentionDevice.Reference);
        string[] named = [.. gradients.Tensors.Select(tensor => tensor.Name)];
        IEnumerable<string> inputs = sketch.Tensors.Keys.Where(tensor => !tensor.StartsWith("dout", StringComparison.Ordinal));
        Assert.That(named, Is.SupersetOf(inputs.Select(tensor => $"d{tensor}")), "each differentiable tensor has a gradient");
        using (Assert.EnterMultipleScope())
        {
            foreach (StoredTensor gradient in gradients.Tensors)
            {
                string input = gradient.Name[1..];
                double[] values = gradient.ToDoubles();
                for (int index = 0; index < values.Length; index += 1 + (values.Length / 7))
                {
                    double difference = sketch.Tensors.TryGetValue(input, out StoredTensor? tensor)
                        ? Difference(sketch, (double[])tensor.Values, index)
                        : Difference(sketch, input);
                    Assert.That(values[index], Is.EqualTo(difference).Within(1e-7), $"{gradient.Name}[{index}]");
                }
            }
        }
    }

    private static CaseSketch Single(string name) => CaseSketch.Of(name)
        .Add("q", TensorType.Float64, 1, 4, 5, 2).Add("k", TensorType.Float64, 1, 2, 7, 2).Add("v", TensorType.Float64, 1, 2, 7, 3)
        .Add("gate", TensorType.Float64, 1, 4, 5).Add("dout", TensorType.Float64, 1, 4, 5, 3);

    private static CaseSketch Double(string name) => CaseSketch.Of(name)
        .Add("q1", TensorType.Float64, 1, 4, 5, 2).Add("k1", TensorType.Float64, 1, 2, 7, 2).Add("v", TensorType.Float64, 1, 2, 7, 3)
        .Add("q2", TensorType.Float64, 1, 4, 5, 2).Add("k2", TensorType.Float64, 1, 2, 7, 2)
        .Add("gate", TensorType.Float64, 1, 4, 5).Add("dout", TensorType.Float64, 1, 4, 5, 3);

    private static CaseSketch Grouped(int queryHeads, int signals, int keyHeads)
    {
        int heads = queryHeads / (signals + 1) * signals;
        return CaseSketch.Of("diff_v2").Set("signals", signals.ToString(CultureInfo.InvariantCulture))
            .Add("q", TensorType.Float64, 1, queryHeads, 5, 2).Add("k", TensorType.Float64, 1, keyHeads, 7, 2)
            .Add("v", TensorType.Float64, 1, keyHeads, 7, 3).Add("lambda_logit", TensorType.Float64, 1, heads, 5)
            .Add("gate", TensorType.Float64, 1, heads, 5).Add("dout", TensorType.Float64, 1, heads, 5, 3);
    }

    private static double Difference(CaseSketch sketch, double[] values, int index)
    {
        double kept = values[index];
        values[index] = kept + Step;
        double above = Objective(sketch);
        values[index] = kept - Step;
        double below = Objective(sketch);
        values[index] = kept;
        return (above - below) / (2 * Step);
    }

    private static double Difference(CaseSketch sketch, string key)
    {
        string? text = sketch.Metadata.GetValueOrDefault(key);
        double kept = text is null ? s_scalarDefaults[key] : double.Parse(text, CultureInfo.InvariantCulture);
        double above = Objective(sketch.Set(key, (kept + Step).ToString("F12", CultureInfo.InvariantCulture)));
        double below = Objective(sketch.Set(key, (kept - Step).ToString("F12", CultureInfo.InvariantCulture)));
        sketch.Set(key, text);
        return (above - below) / (2 * Step);
    }

    /// <summary>
    /// Outputs times their gradients, plus the weighted alignment loss: half of the reported one, whose two terms differ in what is held.
    /// </summary>
    private static double Objective(CaseSketch sketch)
    {
        CaseResult result = sketch.Parse().Forward(AttentionDevice.Reference);
        double sum = 0;
        foreach (string suffix in new[] { "", "_sparse", "_full" })
        {
            if (result.Find($"out{suffix}") is { } output && sketch.Tensors.TryGetValue($"dout{suffix}", out StoredTensor? gradient))
            {
                sum += output.ToDoubles().Zip(gradient.ToDoubles(), (x, y) => x * y).Sum();
            }
        }
        return result.Find("alignment_loss") is { } loss
            ? sum + (0.5 * loss.ToDoubles()[0] * double.Parse(sketch.Metadata["alignment_weight"], CultureInfo.InvariantCulture))
            : sum;
    }
}
