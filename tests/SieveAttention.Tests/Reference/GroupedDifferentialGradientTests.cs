using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>Every gradient of grouped differential attention against central differences in float64.</summary>
internal sealed class GroupedDifferentialGradientTests
{
    private static readonly GroupedDifferentialCase s_pairs = new("pairs") { Queries = 5, Keys = 6 };

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 1.3 };

    private static readonly GroupedDifferentialCase[] s_cases =
    [
        s_pairs,
        s_pairs with { Name = "two signals", Options = new GroupedDifferentialOptions { Signals = 2 } },
        s_pairs with { Name = "four signals, one key head", KeyHeads = 1, Options = new GroupedDifferentialOptions { Signals = 4 } },
        s_pairs with { Name = "groups across key heads", KeyHeads = 3, Options = new GroupedDifferentialOptions { Signals = 2 } },
        s_pairs with { Name = "batch", Batch = 2, Groups = 4, KeyHeads = 4 },
        s_pairs with { Name = "gate", Gate = true },
        s_pairs with
        {
            Name = "norm, gain and gate",
            Gain = true,
            Gate = true,
            ValueDim = 5,
            Options = new GroupedDifferentialOptions { Signals = 2, Epilogue = s_norm },
        },
        s_pairs with
        {
            Name = "scale and slopes",
            Options = new GroupedDifferentialOptions { Scores = new ScoreOptions { Scale = 0.8, AlibiSlopes = [0.3, -0.1, 0, 0.2] } },
        },
        s_pairs with { Name = "not causal", Options = new GroupedDifferentialOptions { Mask = AttentionMask.Full } },
        s_pairs with
        {
            Name = "window, rows without keys",
            Options = new GroupedDifferentialOptions { Mask = new AttentionMask { Window = 3, QueryOffset = -2 } },
        },
        s_pairs with { Name = "one query", Queries = 1, Keys = 12 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Gradients_agree_with_finite_differences(GroupedDifferentialCase test)
    {
        GroupedDifferentialInputs inputs = test.Inputs();
        double[] dout = Values.Doubles(test.OutputGradient());
        double Loss() => test.Forward(inputs).Zip(dout, (y, d) => y * d).Sum();
        using GroupedDifferentialGradients gradients = test.Operator().Backward(inputs, test.OutputGradient());
        Assert.Multiple(() =>
        {
            AssertTensor("q", inputs.Query, gradients.Query, Loss);
            AssertTensor("k", inputs.Key, gradients.Key, Loss);
            AssertTensor("v", inputs.Value, gradients.Value, Loss);
            AssertTensor("lambda logit", inputs.LambdaLogit, gradients.LambdaLogit, Loss);
            AssertTensor("norm gain", inputs.NormGain, gradients.NormGain, Loss);
            AssertTensor("gate", inputs.Gate, gradients.Gate, Loss);
        });
    }

    private static void AssertTensor(string name, AttentionTensor? input, AttentionTensor? gradient, Func<double> loss)
    {
        Assert.That(gradient is null, Is.EqualTo(input is null), name);
        if (input is not null)
        {
            CentralDifferences.AssertGradient(name, input.AsMemory<double>(), Values.Doubles(gradient!), loss);
        }
    }
}
