using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// The rule by which softmax kernels are judged, tried without a GPU: float32 arithmetic with results rounded to the type passes on every
/// case that kernels get, and small mistakes do not.
/// </summary>
[Parallelizable(ParallelScope.All)]
internal sealed class SoftmaxKernelRuleTests
{
    private static readonly OneViewCase s_case = new("rule") { Queries = 150, Keys = 170, HeadDim = 64, ValueDim = 64, Gate = true };

    private static IEnumerable<OneViewCase> Cases => SoftmaxKernelCases.All;

    [TestCaseSource(nameof(Cases))]
    public void Float32_arithmetic_with_rounded_results_passes(OneViewCase test)
    {
        const TensorType Type = TensorType.BFloat16;
        SoftmaxProblem problem = SoftmaxProblem.Of(test with { HeadDim = 64, ValueDim = 64 }, Type);
        SoftmaxAttention cpu = new(AttentionDevice.Cpu, problem.Options);
        using SoftmaxResult result = cpu.Forward(problem.Inputs);
        problem.AssertForward(Rounded(Values.Doubles(result.Output), Type), Values.Doubles(result.LogSumExp), test.Name);
        if (problem.Options.Epilogue.Norm != OutputNorm.None)
        {
            return;
        }

        using AttentionGradients gradients = cpu.Backward(problem.Inputs, problem.OutputGradient!);
        Dictionary<string, double[]> named = SoftmaxProblem.Named(gradients);
        foreach (string name in (string[])["q", "k", "v"])
        {
            named[name] = Rounded(named[name], Type);
        }

        problem.AssertGradients(named, test.Name);
    }

    [Test]
    public void A_key_too_many_fails() => AssertFails(
        (problem, options) => options with { Mask = new AttentionMask { QueryOffset = s_case.Keys - s_case.Queries + 1 } });

    [Test]
    public void A_scale_two_percent_off_fails() => AssertFails(
        (problem, options) => options with { Scores = new ScoreOptions { Scale = 1.02 / 8 } });

    private static void AssertFails(Func<SoftmaxProblem, SoftmaxOptions, SoftmaxOptions> mistake)
    {
        const TensorType Type = TensorType.BFloat16;
        SoftmaxProblem problem = SoftmaxProblem.Of(s_case, Type);
        SoftmaxAttention wrong = new(AttentionDevice.Cpu, mistake(problem, problem.Options));
        using SoftmaxResult result = wrong.Forward(problem.Inputs);
        double[] output = Rounded(Values.Doubles(result.Output), Type);
        Assert.That(problem.ForwardViolations(output, Values.Doubles(result.LogSumExp), "wrong"), Is.Not.Empty);
        using AttentionGradients gradients = wrong.Backward(problem.Inputs, problem.OutputGradient!);
        Assert.That(problem.GradientViolations(SoftmaxProblem.Named(gradients), "wrong"), Is.Not.Empty);
    }

    private static double[] Rounded(double[] values, TensorType type) => Array.ConvertAll(values, value => Values.Round(value, type));
}
