using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// Both versions of differential attention on a CUDA device against the float64 reference. Inputs are rounded to the kernels' type first, so
/// what is left is the rounding of weights, results and the gradient of the rows. The native tests hold the kernels to the error of plain
/// arithmetic; here it is the way through the public classes that is tested.
/// </summary>
[TestFixture(TensorType.BFloat16, 64, 128, 0.02)]
[TestFixture(TensorType.BFloat16, 128, 128, 0.02)]
[TestFixture(TensorType.Float16, 64, 64, 0.004)]
internal sealed class DifferentialKernelTests(TensorType type, int headDim, int valueDim, double tolerance) : GpuFixture
{
    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.2 };

    private static IEnumerable<DifferentialCase> Cases =>
    [
        new("one lambda") { Queries = 130, Keys = 190 },
        new("one lambda a head") { QueryHeads = 4, Queries = 100, Keys = 100, Options = new() { Lambda = [0.2, -0.5, 1.4, 0] } },
        new("a layer")
        {
            Batch = 2, QueryHeads = 4, Queries = 239, Keys = 239, Vectors = true, Gain = true,
            Options = new() { LambdaInit = 0.3, Epilogue = s_norm },
        },
        new("gate, window")
        {
            Queries = 200, Keys = 200, Gate = true, Options = new() { Lambda = [0.6], Mask = new() { Window = 60 }, Epilogue = s_norm },
        },
        new("full, scale")
        {
            Queries = 113, Keys = 203, Options = new() { Lambda = [0.6], Mask = AttentionMask.Full, Scores = new() { Scale = 0.1 } },
        },
    ];

    private static IEnumerable<GroupedDifferentialCase> GroupedCases =>
    [
        new("second version") { Groups = 4, Queries = 130, Keys = 190 },
        new("two signals, groups across key heads") { KeyHeads = 3, Queries = 200, Keys = 200, Gate = true, Options = new() { Signals = 2 } },
        new("four signals, norm")
        {
            Batch = 2, Queries = 100, Keys = 120, Gain = true, Options = new() { Signals = 4, Epilogue = s_norm },
        },
    ];

    [TestCaseSource(nameof(Cases))]
    public void The_first_version_agrees_with_the_reference(DifferentialCase test)
    {
        test = test with { HeadDim = headDim, ValueDim = valueDim };
        DifferentialInputs host = test.Inputs(type);
        host = host with { NormGain = Float32(host.NormGain), Gate = Float32(host.Gate), LambdaVectors = Float32(host.LambdaVectors) };
        AttentionTensor dout = Rounded(test.OutputGradient());
        using DeviceCopies copies = new(Device);
        DifferentialInputs inputs = host with
        {
            Query1 = copies.Of(host.Query1),
            Key1 = copies.Of(host.Key1),
            Query2 = copies.Of(host.Query2),
            Key2 = copies.Of(host.Key2),
            Value = copies.Of(host.Value),
            NormGain = copies.Dense(host.NormGain),
            Gate = copies.OfOptional(host.Gate),
        };
        DifferentialAttention attention = test.Operator(Device);
        using DifferentialResult expected = test.Operator().Forward(host);
        using DifferentialResult actual = attention.Forward(inputs);
        Assert.That(actual.Output.Type, Is.EqualTo(type));
        AssertClose("output", actual.Output, expected.Output);
        AssertClose("lse1", actual.LogSumExp1, expected.LogSumExp1);
        AssertClose("lse2", actual.LogSumExp2, expected.LogSumExp2);

        using DifferentialGradients reference = test.Operator().Backward(host, dout);
        using DifferentialGradients gradients = attention.Backward(inputs, copies.Of(dout));
        AssertClose("query1", gradients.Query1, reference.Query1);
        AssertClose("key1", gradients.Key1, reference.Key1);
        AssertClose("query2", gradients.Query2, reference.Query2);
        AssertClose("key2", gradients.Key2, reference.Key2);
        AssertClose("value", gradients.Value, reference.Value);
        AssertClose("gain", gradients.NormGain, reference.NormGain);
        AssertClose("gate", gradients.Gate, reference.Gate);
        AssertClose("vectors", gradients.LambdaVectors, reference.LambdaVectors, 5);
        // Sums over all rows, which cancel.
        Assert.That(gradients.Lambda, Is.EqualTo(reference.Lambda).Within(tolerance * test.Batch * test.Queries));
    }

    [TestCaseSource(nameof(GroupedCases))]
    public void The_second_version_agrees_with_the_reference(GroupedDifferentialCase test)
    {
        test = test with { HeadDim = headDim, ValueDim = valueDim };
        GroupedDifferentialInputs host = test.Inputs(type);
        host = host with
        {
            LambdaLogit = Float32(host.LambdaLogit)!, NormGain = Float32(host.NormGain), Gate = Float32(host.Gate),
        };
        AttentionTensor dout = Rounded(test.OutputGradient());
        using DeviceCopies copies = new(Device);
        GroupedDifferentialInputs inputs = new()
        {
            Query = copies.Of(host.Query),
            Key = copies.Of(host.Key),
            Value = copies.Of(host.Value),
            LambdaLogit = copies.Of(host.LambdaLogit),
            NormGain = copies.Dense(host.NormGain),
            Gate = copies.OfOptional(host.Gate),
        };
        GroupedDifferentialAttention attention = test.Operator(Device);
        using GroupedDifferentialResult expected = test.Operator().Forward(host);
        using GroupedDifferentialResult actual = attention.Forward(inputs);
        AssertClose("output", actual.Output, expected.Output);
        AssertClose("lse", actual.LogSumExp, expected.LogSumExp);

        using GroupedDifferentialGradients reference = test.Operator().Backward(host, dout);
        using GroupedDifferentialGradients gradients = attention.Backward(inputs, copies.Of(dout));
        AssertClose("query", gradients.Query, reference.Query);
        AssertClose("key", gradients.Key, reference.Key);
        AssertClose("value", gradients.Value, reference.Value);
        AssertClose("logit", gradients.LambdaLogit, reference.LambdaLogit);
        AssertClose("gain", gradients.NormGain, reference.NormGain);
        AssertClose("gate", gradients.Gate, reference.Gate);
    }

    [Test]
    public void Backward_from_a_result_gives_the_bits_of_backward_alone()
    {
        DifferentialCase test = new("result")
        {
            QueryHeads = 4, Queries = 150, Keys = 150, HeadDim = headDim, ValueDim = valueDim,
            Options = new() { Lambda = [0.6], Epilogue = s_norm, Kernels = new() { Repeatability = Repeatability.Bitwise } },
        };
        DifferentialInputs host = test.Inputs(type);
        using DeviceCopies copies = new(Device);
        DifferentialInputs inputs = host with
        {
            Query1 = copies.Of(host.Query1),
            Key1 = copies.Of(host.Key1),
            Query2 = copies.Of(host.Query2),
            Key2 = copies.Of(host.Key2),
            Value = copies.Of(host.Value),
        };
        AttentionTensor dout = copies.Of(Rounded(test.OutputGradient()));
        DifferentialAttention attention = test.Operator(Device);
        using DifferentialResult plain = attention.Forward(inputs);
        using DifferentialGradients expected = attention.Backward(inputs, dout);
        using DifferentialResult kept = attention.AllocateResult(inputs);
        using DifferentialGradients actual = attention.AllocateGradients(inputs);
        using AttentionStream stream = Device.CreateStream();
        using DeviceWorkspace workspace = new(Device);
        attention.Forward(inputs, kept, stream, workspace);
        attention.Backward(inputs, kept, dout, actual, stream, workspace);
        stream.Synchronize();
        Assert.That(Download(kept.Output), Is.EqualTo(Download(plain.Output)));
        Assert.That(Download(actual.Query2), Is.EqualTo(Download(expected.Query2)));
        Assert.That(Download(actual.Value), Is.EqualTo(Download(expected.Value)));
        Assert.That(actual.Lambda, Is.EqualTo(expected.Lambda));
        Assert.That(
            () => attention.Backward(inputs, plain, dout, actual), Throws.ArgumentException.With.Message.Contains("Output1 is absent"));
    }

    [Test]
    public void The_trained_layer_agrees_with_the_reference()
    {
        GoldenFile real = new("differential", "real");
        DifferentialInputs inputs = new()
        {
            Query1 = real.Tensor("q1")!,
            Key1 = real.Tensor("k1")!,
            Query2 = real.Tensor("q2")!,
            Key2 = real.Tensor("k2")!,
            Value = real.Tensor("v")!,
            LambdaVectors = real.Tensor("lambda_vectors"),
            NormGain = real.Tensor("norm_gain"),
        };
        if (inputs.Query1.Shape.Channels != headDim || inputs.Value.Shape.Channels != valueDim)
        {
            Assert.Ignore($"The layer has head_dim {inputs.Query1.Shape.Channels}, value_dim {inputs.Value.Shape.Channels}.");
        }

        inputs = inputs with
        {
            Query1 = Rounded(inputs.Query1),
            Key1 = Rounded(inputs.Key1),
            Query2 = Rounded(inputs.Query2),
            Key2 = Rounded(inputs.Key2),
            Value = Rounded(inputs.Value),
            NormGain = Float32(inputs.NormGain),
        };
        DifferentialOptions options = new()
        {
            Lambda = real.Number("lambda") is { } lambda ? [lambda] : null,
            LambdaInit = real.Number("lambda_init"),
            Scores = new ScoreOptions { Scale = real.Number("scale") },
            Mask = real.Mask,
            Epilogue = real.Epilogue,
        };
        using DeviceCopies copies = new(Device);
        using DifferentialResult expected = new DifferentialAttention(AttentionDevice.Reference, options).Forward(inputs);
        using DifferentialResult actual = new DifferentialAttention(Device, options).Forward(inputs with
        {
            Query1 = copies.Of(inputs.Query1),
            Key1 = copies.Of(inputs.Key1),
            Query2 = copies.Of(inputs.Query2),
            Key2 = copies.Of(inputs.Key2),
            Value = copies.Of(inputs.Value),
            NormGain = copies.Dense(inputs.NormGain),
        });
        AssertClose("output", actual.Output, expected.Output);
    }

    [Test]
    public void What_no_kernel_does_is_refused()
    {
        DifferentialCase test = new("slopes")
        {
            HeadDim = headDim, ValueDim = valueDim, Options = new() { Lambda = [0.6], Scores = new() { AlibiSlopes = [0.1, 0.2] } },
        };
        DifferentialInputs host = test.Inputs(type);
        using DeviceCopies copies = new(Device);
        DifferentialInputs inputs = host with
        {
            Query1 = copies.Of(host.Query1),
            Key1 = copies.Of(host.Key1),
            Query2 = copies.Of(host.Query2),
            Key2 = copies.Of(host.Key2),
            Value = copies.Of(host.Value),
        };
        Assert.That(() => test.Operator(Device).Forward(inputs), Throws.TypeOf<NotSupportedException>().With.Message.Contains("AlibiSlopes"));
        Assert.That(
            () => test.Operator(Device).Forward(inputs with { Query2 = host.Query2 }),
            Throws.ArgumentException.With.Message.Contains("Query2"));
    }

    private static AttentionTensor? Float32(AttentionTensor? tensor) =>
        tensor is null ? null : Values.Tensor(Values.Doubles(tensor), tensor.Shape, TensorType.Float32);

    private AttentionTensor Rounded(AttentionTensor tensor) => Values.Tensor(Values.Doubles(tensor), tensor.Shape, type);

    private static double[] Download(AttentionTensor tensor)
    {
        using AttentionTensor host = tensor.ToHost();
        return Values.Doubles(host);
    }

    private void AssertClose(string name, AttentionTensor? actual, AttentionTensor? expected, double factor = 1)
    {
        Assert.That(actual is null, Is.EqualTo(expected is null), name);
        if (actual is not null)
        {
            Deviation deviation = Deviation.Of(Download(actual), Values.Doubles(expected!));
            Assert.That(deviation.Relative, Is.LessThanOrEqualTo(factor * tolerance), $"{name}: {deviation}");
        }
    }
}
