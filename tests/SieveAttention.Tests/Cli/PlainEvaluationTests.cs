using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

/// <summary>The yardstick of kernels must itself be near the reference, and no nearer than its type allows.</summary>
public sealed class PlainEvaluationTests
{
    [TestCase("tda-causal", TensorType.BFloat16, 1e-3, 2e-2)]
    [TestCase("tda-gqa-norm", TensorType.BFloat16, 1e-3, 2e-2)]
    [TestCase("tda-causal", TensorType.Float16, 1e-4, 5e-3)]
    [TestCase("tda-gqa-norm", TensorType.Float16, 1e-4, 5e-3)]
    public void Its_error_is_that_of_the_type(string name, TensorType type, double least, double most)
    {
        AttentionCase rounded = CaseFile.Read(TestData.Golden(name)).Rounded(type);
        double[] exact = rounded.Forward(AttentionDevice.Reference).Find("out")!.ToDoubles();
        ErrorStatistics error = ErrorStatistics.Compare(rounded.PlainOutput("out", type)!.ToDoubles(), exact);
        Assert.That(error.Relative, Is.InRange(least, most));
    }

    [Test]
    public void It_has_the_whole_epilogue()
    {
        CaseSketch sketch = new CaseSketch().Set("beta", "0").Set("norm", "rms").Set("norm_eps", "1e-4").Set("output_scale", "-3");
        AttentionCase rounded = sketch.Add("norm_gain", 3).Add("gate", 1, 2, 3).Parse().Rounded(TensorType.Float16);
        double[] exact = rounded.Forward(AttentionDevice.Reference).Find("out")!.ToDoubles();
        ErrorStatistics error = ErrorStatistics.Compare(rounded.PlainOutput("out", TensorType.Float16)!.ToDoubles(), exact);
        Assert.That(error.Relative, Is.LessThan(5e-3));
    }

    [TestCase("diff-lambda", TensorType.BFloat16, 5e-4, 6e-2)]
    [TestCase("diff-vectors-norm", TensorType.BFloat16, 5e-4, 6e-2)]
    [TestCase("diff_v2-one-signal", TensorType.BFloat16, 5e-4, 6e-2)]
    [TestCase("diff_v2-three-signals", TensorType.BFloat16, 5e-4, 6e-2)]
    [TestCase("diff-vectors-norm", TensorType.Float16, 5e-5, 8e-3)]
    [TestCase("diff_v2-three-signals", TensorType.Float16, 5e-5, 8e-3)]
    public void Its_gradients_are_those_of_the_reference_but_for_the_type(string name, TensorType type, double least, double most)
    {
        AttentionCase rounded = CaseFile.Read(TestData.Golden(name)).Rounded(type);
        IReadOnlyList<StoredTensor> plain = rounded.PlainGradients(type);
        IReadOnlyList<StoredTensor> exact = rounded.Backward(AttentionDevice.Reference).Tensors;
        Assert.That(plain.Select(tensor => tensor.Name), Is.EquivalentTo(exact.Select(tensor => tensor.Name)));
        Assert.Multiple(() =>
        {
            foreach (StoredTensor tensor in exact)
            {
                ErrorStatistics error = ErrorStatistics.Compare(
                    plain.Single(other => other.Name == tensor.Name).ToDoubles(), tensor.ToDoubles());
                // Sums over all rows may come out better than any of them.
                double floor = tensor.Name.StartsWith("dlambda", StringComparison.Ordinal) || tensor.Name == "dnorm_gain" ? 0 : least;
                Assert.That(error.Relative, Is.InRange(floor, most), tensor.Name);
            }
        });
    }

    [TestCase(TensorType.BFloat16, 1.0 / 128)]
    [TestCase(TensorType.Float16, 1.0 / 1024)]
    public void The_floor_is_twice_the_rounding_of_a_sum_of_order_one(TensorType type, double expected)
    {
        double[] values = [.. Enumerable.Range(0, 1000).Select(i => i * 0.00076)];
        Assert.That(PlainEvaluation.Floor(values, type), Is.EqualTo(expected));
    }

    [Test]
    public void The_floor_of_zeros_is_zero()
    {
        Assert.That(PlainEvaluation.Floor([0, 0], TensorType.BFloat16), Is.Zero);
    }
}
