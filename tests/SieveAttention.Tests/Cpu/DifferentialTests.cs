using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Tests.Support;
using CpuOperator = SieveAttention.Cpu.Differential;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Differential attention of the Cpu device against the float64 reference on the same float32 inputs. Tolerances are relative to the
/// largest value: 2e-5 for outputs, whose two softmax outputs are right to a few 1e-7 and lose digits where they cancel, most of all before
/// a norm; 2e-4 for gradients, which lose more to cancellation.
/// </summary>
internal sealed class DifferentialTests
{
    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 0.53 };

    private static readonly DifferentialCase s_tiles = new("several tiles")
    {
        Queries = 150, Keys = 150, HeadDim = 16, ValueDim = 32, Options = new DifferentialOptions { Lambda = [0.6] },
    };

    private static readonly DifferentialCase[] s_cases =
    [
        s_tiles,
        s_tiles with { Name = "one lambda a head", Options = new DifferentialOptions { Lambda = [0.6, -0.4] } },
        s_tiles with { Name = "lambda 0", Options = new DifferentialOptions { Lambda = [0] } },
        s_tiles with { Name = "lambda 0 in one head", Options = new DifferentialOptions { Lambda = [0, 0.5] } },
        s_tiles with
        {
            Name = "vectors, norm, gain and gate",
            Vectors = true,
            Gain = true,
            Gate = true,
            Options = new DifferentialOptions { LambdaInit = 0.47, Epilogue = s_norm },
        },
        s_tiles with { Name = "grouped heads, window", Batch = 2, QueryHeads = 4, Options = Windowed(new AttentionMask { Window = 40 }) },
        s_tiles with { Name = "rows without keys", Options = Windowed(new AttentionMask { QueryOffset = -70 }) },
        s_tiles with { Name = "not causal, more keys", Keys = 203, Options = Windowed(AttentionMask.Full) },
        s_tiles with
        {
            Name = "scale and slopes",
            Options = new DifferentialOptions { Lambda = [0.3], Scores = new ScoreOptions { Scale = 0.2, AlibiSlopes = [0.05, 0] } },
        },
        s_tiles with { Name = "one query", Queries = 1 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Both_passes_agree_with_the_reference(DifferentialCase test) => AssertAgreement(test);

    [Test]
    public void Both_passes_agree_with_the_reference_on_random_cases() =>
        Properties.ForAllSeeds(seed => AssertAgreement(DifferentialCase.Random(seed)));

    [Test]
    public void Results_do_not_depend_on_the_number_of_threads()
    {
        DifferentialInputs inputs = s_tiles.Inputs(TensorType.Float32);
        AttentionProblem problem = new(1, 2, 2, 150, 150, 16, 32, Causal: true, QueryOffset: 0, Window: 0);
        DifferentialArrays<float> arrays = new(
            HostArray<float>.Read(inputs.Query1),
            HostArray<float>.Read(inputs.Key1),
            HostArray<float>.Read(inputs.Query2),
            HostArray<float>.Read(inputs.Key2),
            HostArray<float>.Read(inputs.Value),
            null,
            null);
        DifferentialParameters parameters = new([0.6, 0.2], EpilogueParameters.None);
        HostArray<float> dout = HostArray<float>.Read(s_tiles.OutputGradient());
        ScoreTerms<float> terms = new(0.25f);
        CpuExecution one = new() { Threads = 1 };
        CpuExecution three = new() { Threads = 3 };
        Assert.That(
            CpuOperator.Forward(problem, terms, parameters, arrays, three).Output.Data,
            Is.EqualTo(CpuOperator.Forward(problem, terms, parameters, arrays, one).Output.Data));
        DifferentialBackward<float> expected = CpuOperator.Backward(problem, terms, parameters, arrays, dout, one);
        DifferentialBackward<float> actual = CpuOperator.Backward(problem, terms, parameters, arrays, dout, three);
        Assert.That(actual.Query1.Data, Is.EqualTo(expected.Query1.Data));
        Assert.That(actual.Query2.Data, Is.EqualTo(expected.Query2.Data));
        Assert.That(actual.Lambda, Is.EqualTo(expected.Lambda));
        DifferentialBackward<float> again = CpuOperator.Backward(problem, terms, parameters, arrays, dout, three);
        Assert.That(again.Key1.Data, Is.EqualTo(actual.Key1.Data));
        Assert.That(again.Value.Data, Is.EqualTo(actual.Value.Data));
    }

    [Test]
    public void Views_that_cancel_exactly_have_a_zero_output_and_finite_gradients()
    {
        DifferentialCase test = s_tiles with { Gain = true, Options = new DifferentialOptions { Lambda = [1], Epilogue = s_norm } };
        DifferentialInputs inputs = test.Inputs(TensorType.Float32);
        inputs = inputs with { Query2 = inputs.Query1, Key2 = inputs.Key1 };
        using DifferentialResult result = test.Operator(AttentionDevice.Cpu).Forward(inputs);
        Assert.That(Values.Doubles(result.Output), Has.All.Zero);
        using DifferentialGradients gradients = test.Operator(AttentionDevice.Cpu).Backward(inputs, test.OutputGradient());
        Assert.That(Values.Doubles(gradients.Query1).All(double.IsFinite));
        Assert.That(Values.Doubles(gradients.Value).All(double.IsFinite));
    }

    [Test]
    public void Tensors_of_a_trained_layer_agree_too()
    {
        GoldenFile real = new("differential", "real");
        AttentionTensor query1 = real.Tensor("q1")!;
        int rows = query1.Shape.Rows;
        // The last rows, which see most; the lambda beside the vectors is the one that the model computed.
        DifferentialInputs inputs = new()
        {
            Query1 = query1.Slice(2, rows - 96, 96),
            Key1 = real.Tensor("k1")!,
            Query2 = real.Tensor("q2")!.Slice(2, rows - 96, 96),
            Key2 = real.Tensor("k2")!,
            Value = real.Tensor("v")!,
            LambdaVectors = real.Tensor("lambda_vectors"),
            NormGain = real.Tensor("norm_gain"),
        };
        DifferentialOptions options = new()
        {
            Lambda = [real.Number("lambda")!.Value], LambdaInit = real.Number("lambda_init"), Mask = real.Mask, Epilogue = real.Epilogue,
        };
        using DifferentialResult expected = new DifferentialAttention(AttentionDevice.Reference, options).Forward(inputs);
        using DifferentialResult actual = new DifferentialAttention(AttentionDevice.Cpu, options).Forward(inputs);
        Deviation deviation = Deviation.Of(Values.Doubles(actual.Output), Values.Doubles(expected.Output));
        TestContext.Out.WriteLine($"out: {deviation}");
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(1e-4), $"{deviation}");
    }

    private static DifferentialOptions Windowed(AttentionMask mask) => new() { Lambda = [0.6], Mask = mask };

    private static void AssertAgreement(DifferentialCase test)
    {
        DifferentialInputs inputs = test.Inputs(TensorType.Float32);
        DifferentialAttention reference = test.Operator();
        DifferentialAttention cpu = test.Operator(AttentionDevice.Cpu);
        using DifferentialResult expected = reference.Forward(inputs);
        using DifferentialResult actual = cpu.Forward(inputs);
        AssertClose("out", actual.Output, expected.Output, 2e-5, test);
        AssertClose("lse1", actual.LogSumExp1, expected.LogSumExp1, 2e-5, test);
        AssertClose("lse2", actual.LogSumExp2, expected.LogSumExp2, 2e-5, test);

        AttentionTensor dout = test.OutputGradient();
        using DifferentialGradients expectedGradients = reference.Backward(inputs, dout);
        using DifferentialGradients gradients = cpu.Backward(inputs, dout);
        AssertClose("dq1", gradients.Query1, expectedGradients.Query1, 2e-4, test);
        AssertClose("dk1", gradients.Key1, expectedGradients.Key1, 2e-4, test);
        AssertClose("dq2", gradients.Query2, expectedGradients.Query2, 2e-4, test);
        AssertClose("dk2", gradients.Key2, expectedGradients.Key2, 2e-4, test);
        AssertClose("dv", gradients.Value, expectedGradients.Value, 2e-4, test);
        AssertClose("dgain", gradients.NormGain, expectedGradients.NormGain, 2e-4, test);
        AssertClose("dgate", gradients.Gate, expectedGradients.Gate, 2e-4, test);
        AssertClose("dlambda_vectors", gradients.LambdaVectors, expectedGradients.LambdaVectors, 2e-4, test);
        Deviation lambda = Deviation.Of([.. gradients.Lambda], [.. expectedGradients.Lambda]);
        Assert.That(lambda.Max, Is.LessThanOrEqualTo(2e-4 * Math.Max(1, lambda.Scale)), $"dlambda of {test}: {lambda}");
    }

    private static void AssertClose(
        string name, AttentionTensor? actual, AttentionTensor? expected, double tolerance, DifferentialCase test)
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
