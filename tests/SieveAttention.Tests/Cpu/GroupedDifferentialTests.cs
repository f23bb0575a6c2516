using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Grouped differential attention of the Cpu device against the float64 reference on the same float32 inputs, with the tolerances of
/// <see cref="DifferentialTests"/>.
/// </summary>
internal sealed class GroupedDifferentialTests
{
    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 0.53 };

    private static readonly GroupedDifferentialCase s_tiles = new("several tiles")
    {
        Queries = 150, Keys = 150, HeadDim = 16, ValueDim = 16,
    };

    private static readonly GroupedDifferentialCase[] s_cases =
    [
        s_tiles,
        s_tiles with { Name = "four signals", KeyHeads = 1, Options = new GroupedDifferentialOptions { Signals = 4 } },
        s_tiles with { Name = "groups across key heads", KeyHeads = 3, Options = new GroupedDifferentialOptions { Signals = 2 } },
        s_tiles with { Name = "batch, gate", Batch = 2, Gate = true },
        s_tiles with
        {
            Name = "norm, gain and gate",
            Gain = true,
            Gate = true,
            ValueDim = 24,
            Options = new GroupedDifferentialOptions { Signals = 2, Epilogue = s_norm },
        },
        s_tiles with
        {
            Name = "window, rows without keys",
            Options = new GroupedDifferentialOptions { Mask = new AttentionMask { Window = 40, QueryOffset = -70 } },
        },
        s_tiles with { Name = "not causal, more keys", Keys = 203, Options = new GroupedDifferentialOptions { Mask = AttentionMask.Full } },
        s_tiles with
        {
            Name = "scale and slopes",
            Options = new GroupedDifferentialOptions { Scores = new ScoreOptions { Scale = 0.2, AlibiSlopes = [0.05, 0, 0, 0.1] } },
        },
        s_tiles with { Name = "one query", Queries = 1 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Both_passes_agree_with_the_reference(GroupedDifferentialCase test) => AssertAgreement(test);

    [Test]
    public void Both_passes_agree_with_the_reference_on_random_cases() =>
        Properties.ForAllSeeds(seed => AssertAgreement(GroupedDifferentialCase.Random(seed)));

    [Test]
    public void A_closed_logit_is_softmax_attention_of_the_signal_heads()
    {
        double[] logits = new double[s_tiles.OutputRowShape.Count];
        Array.Fill(logits, double.NegativeInfinity);
        GroupedDifferentialInputs inputs = s_tiles.Inputs(TensorType.Float32) with
        {
            LambdaLogit = Values.Tensor(logits, s_tiles.OutputRowShape, TensorType.Float32),
        };
        (HostArray<double> heads, _) = SoftmaxDefinition.Forward(
            AttentionMask.CausalMask,
            new ScoreOptions(),
            HostArray<double>.Read(inputs.Query),
            HostArray<double>.Read(inputs.Key),
            HostArray<double>.Read(inputs.Value));
        using GroupedDifferentialResult result = s_tiles.Operator(AttentionDevice.Cpu).Forward(inputs);
        HostArray<double> output = HostArray<double>.Read(result.Output);
        Assert.That(output.Head(0, 0).ToArray(), Is.EqualTo(heads.Head(0, 0).ToArray()).Within(1e-5));
        Assert.That(output.Head(0, 1).ToArray(), Is.EqualTo(heads.Head(0, 2).ToArray()).Within(1e-5));
    }

    private static void AssertAgreement(GroupedDifferentialCase test)
    {
        GroupedDifferentialInputs inputs = test.Inputs(TensorType.Float32);
        GroupedDifferentialAttention reference = test.Operator();
        GroupedDifferentialAttention cpu = test.Operator(AttentionDevice.Cpu);
        using GroupedDifferentialResult expected = reference.Forward(inputs);
        using GroupedDifferentialResult actual = cpu.Forward(inputs);
        AssertClose("out", actual.Output, expected.Output, 2e-5, test);
        AssertClose("lse", actual.LogSumExp, expected.LogSumExp, 2e-5, test);

        AttentionTensor dout = test.OutputGradient();
        using GroupedDifferentialGradients expectedGradients = reference.Backward(inputs, dout);
        using GroupedDifferentialGradients gradients = cpu.Backward(inputs, dout);
        AssertClose("dq", gradients.Query, expectedGradients.Query, 2e-4, test);
        AssertClose("dk", gradients.Key, expectedGradients.Key, 2e-4, test);
        AssertClose("dv", gradients.Value, expectedGradients.Value, 2e-4, test);
        AssertClose("dlambda_logit", gradients.LambdaLogit, expectedGradients.LambdaLogit, 2e-4, test);
        AssertClose("dgain", gradients.NormGain, expectedGradients.NormGain, 2e-4, test);
        AssertClose("dgate", gradients.Gate, expectedGradients.Gate, 2e-4, test);
    }

    private static void AssertClose(
        string name, AttentionTensor? actual, AttentionTensor? expected, double tolerance, GroupedDifferentialCase test)
    {
        Assert.That(actual is null, Is.EqualTo(expected is null), name);
        if (actual is not null)
        {
            // Gradients of a row with a single key are 0 but for rounding: not below a tenth of the size of the inputs.
            Deviation deviation = Deviation.Of(Values.Doubles(actual), Values.Doubles(expected!));
            Assert.That(deviation.Max, Is.LessThanOrEqualTo(tolerance * Math.Max(0.1, deviation.Scale)), $"{name} of {test}: {deviation}");
        }
    }
}
