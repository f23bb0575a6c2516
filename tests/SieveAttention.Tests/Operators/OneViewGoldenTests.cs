using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>The golden files of softmax, entmax and support basis, both passes; integers exactly.</summary>
internal sealed class OneViewGoldenTests
{
    [TestCase("softmax-causal", "reference")]
    [TestCase("softmax-causal", "cpu")]
    [TestCase("softmax-gqa-gate", "reference")]
    [TestCase("softmax-gqa-gate", "cpu")]
    public void Softmax_reproduces(string name, string device)
    {
        OneViewGolden golden = OneViewGolden.Load(name, device);
        SoftmaxAttention attention = new(golden.Device, new SoftmaxOptions { Scores = golden.Scores, Mask = golden.Mask });
        using SoftmaxResult result = attention.Forward(golden.Inputs);
        using AttentionGradients gradients = attention.Backward(golden.Inputs, golden.OutputGradient);
        Assert.Multiple(() =>
        {
            AssertOutput(golden, "out", Values.Doubles(result.Output));
            AssertOutput(golden, "lse", Values.Doubles(result.LogSumExp));
            AssertGradients(golden, gradients);
            if (golden.Expects("drow_s"))
            {
                AssertGradient(golden, "drow_s", [.. gradients.RowFactor!.Values]);
            }
        });
    }

    [TestCase("entmax-15", "reference")]
    [TestCase("entmax-15", "cpu")]
    [TestCase("entmax-175-gqa", "reference")]
    [TestCase("entmax-175-gqa", "cpu")]
    public void Entmax_reproduces(string name, string device)
    {
        OneViewGolden golden = OneViewGolden.Load(name, device);
        EntmaxAttention attention = new(
            golden.Device, new EntmaxOptions { Alpha = [golden.Number("alpha") ?? 1.5], Scores = golden.Scores, Mask = golden.Mask });
        using EntmaxResult result = attention.Forward(golden.Inputs);
        using EntmaxGradients gradients = attention.Backward(golden.Inputs, golden.OutputGradient);
        Assert.Multiple(() =>
        {
            AssertOutput(golden, "out", Values.Doubles(result.Output));
            AssertOutput(golden, "tau", Values.Doubles(result.Tau));
            Assert.That(
                Array.ConvertAll(result.Support.AsSpan<int>().ToArray(), count => (double)count), Is.EqualTo(golden.Expected("support")));
            AssertGradients(golden, gradients);
            AssertGradient(golden, "dalpha", [.. gradients.Alpha]);
        });
    }

    [TestCase("support_basis-one", "reference")]
    [TestCase("support_basis-one", "cpu")]
    [TestCase("support_basis-two", "reference")]
    [TestCase("support_basis-two", "cpu")]
    public void Support_basis_reproduces(string name, string device)
    {
        OneViewGolden golden = OneViewGolden.Load(name, device);
        SupportBasisOptions options = new()
        {
            Degree = (int)golden.Number("degree")!.Value,
            Bound = golden.Number("bound")!.Value,
            Tile = (int)golden.Number("tile")!.Value,
            Scores = golden.Scores,
            Mask = golden.Mask,
        };
        SupportBasisAttention attention = new(golden.Device, options);
        using SupportBasisResult result = attention.Forward(golden.Inputs);
        using AttentionGradients gradients = attention.Backward(golden.Inputs, golden.OutputGradient);
        Assert.Multiple(() =>
        {
            AssertOutput(golden, "out", Values.Doubles(result.Output));
            AssertOutput(golden, "exact_fraction", [result.ExactFraction]);
            AssertGradients(golden, gradients);
        });
    }

    private static void AssertGradients(OneViewGolden golden, AttentionGradients gradients)
    {
        AssertGradient(golden, "dq", Values.Doubles(gradients.Query));
        AssertGradient(golden, "dk", Values.Doubles(gradients.Key));
        AssertGradient(golden, "dv", Values.Doubles(gradients.Value));
        Assert.That(gradients.Gate is not null, Is.EqualTo(golden.Expects("dgate")));
        if (gradients.Gate is not null)
        {
            AssertGradient(golden, "dgate", Values.Doubles(gradients.Gate));
        }
    }

    private static void AssertOutput(OneViewGolden golden, string name, double[] actual) =>
        Assert.That(Deviation.Of(actual, golden.Expected(name)).Relative, Is.LessThanOrEqualTo(golden.Tolerance), name);

    private static void AssertGradient(OneViewGolden golden, string name, double[] actual) =>
        Assert.That(Deviation.Of(actual, golden.Expected(name)).Relative, Is.LessThanOrEqualTo(golden.GradientTolerance), name);
}
