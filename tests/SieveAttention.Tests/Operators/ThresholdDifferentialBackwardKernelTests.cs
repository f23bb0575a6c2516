using NUnit.Framework;
using SieveAttention.Tests.Support;
using PlainBackward = SieveAttention.Cli.Verification.PlainThresholdDifferential;
using PlainEpilogue = SieveAttention.Cli.Verification.PlainEpilogue;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// Gradients of the CUDA kernels against the float64 reference, in every case that forward has, by the rule of three times the error of
/// plain arithmetic.
/// </summary>
[Parallelizable(ParallelScope.All)]
[TestFixture(TensorType.BFloat16, 64)]
[TestFixture(TensorType.BFloat16, 128)]
[TestFixture(TensorType.Float16, 64)]
internal sealed class ThresholdDifferentialBackwardKernelTests(TensorType type, int headDim) : GpuFixture
{
    private static IEnumerable<ThresholdCase> Cases => ThresholdDifferentialKernelCases.All;

    [TestCaseSource(nameof(Cases))]
    public void Gradients_are_those_of_the_reference(ThresholdCase test)
    {
        test = test with { HeadDim = headDim, ValueDim = headDim };
        ThresholdDifferentialInputs host = test.Inputs(type);
        using AttentionTensor outputGradient = OutputGradient(test);
        using DeviceInputs inputs = new(host, Device);
        using AttentionTensor deviceGradient = outputGradient.To(Device);
        using ThresholdDifferentialGradients expected =
            new ThresholdDifferentialAttention(AttentionDevice.Reference, test.Options).Backward(host, outputGradient);
        using ThresholdDifferentialGradients actual =
            new ThresholdDifferentialAttention(Device, test.Options).Backward(inputs.Tensors, deviceGradient);
        PlainBackward.Gradients plain = Plain(test, host, outputGradient);
        Assert.Multiple(() =>
        {
            AssertWithin(actual.Query1, plain.Queries[0].Data, expected.Query1, "Query1");
            AssertWithin(actual.Key1, plain.Keys[0].Data, expected.Key1, "Key1");
            AssertWithin(actual.Query2, plain.Queries[1].Data, expected.Query2, "Query2");
            AssertWithin(actual.Key2, plain.Keys[1].Data, expected.Key2, "Key2");
            AssertWithin(actual.Value, plain.Value.Data, expected.Value, "Value");
            AssertWithin(actual.NormGain, plain.NormGain, expected.NormGain, "NormGain");
            AssertWithin(actual.Gate, plain.Gate.Data, expected.Gate, "Gate");
            AssertSum(actual.Beta, expected.Beta, expected.HeadBeta, "Beta");
            AssertSum(actual.Kappa, expected.Kappa, [], "Kappa");
            AssertSum(actual.Lambda, expected.Lambda, expected.HeadLambda, "Lambda");
        });
    }

    [Test]
    public void The_survivor_tiles_of_forward_change_no_bit([Values(false, true)] bool norm)
    {
        ThresholdCase test = new("tiles")
        {
            Batch = 2,
            QueryHeads = 4,
            Queries = 500,
            Keys = 700,
            HeadDim = headDim,
            ValueDim = headDim,
            Gate = true,
            Gain = norm,
            Options = new ThresholdDifferentialOptions
            {
                Beta = 0.9,
                Lambda = 0.5,
                Epilogue = norm ? new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-5 } : new OutputEpilogue(),
            },
        };
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        using AttentionTensor outputGradient = OutputGradient(test);
        using AttentionTensor deviceGradient = outputGradient.To(Device);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using ThresholdDifferentialResult forward = attention.Forward(inputs.Tensors);
        using ThresholdDifferentialGradients alone = attention.Backward(inputs.Tensors, deviceGradient);
        using ThresholdDifferentialGradients given = attention.AllocateGradients(inputs.Tensors);
        using DeviceWorkspace workspace = new(Device);
        using AttentionStream stream = Device.CreateStream();
        stream.Synchronize();
        attention.Backward(inputs.Tensors, forward, deviceGradient, given, stream, workspace);
        stream.Synchronize();
        Assert.Multiple(() =>
        {
            Assert.That(Download(given.Query1), Is.EqualTo(Download(alone.Query1)));
            Assert.That(Download(given.Key1), Is.EqualTo(Download(alone.Key1)));
            Assert.That(Download(given.Query2!), Is.EqualTo(Download(alone.Query2!)));
            Assert.That(Download(given.Key2!), Is.EqualTo(Download(alone.Key2!)));
            Assert.That(Download(given.Value), Is.EqualTo(Download(alone.Value)));
            Assert.That(Download(given.Gate!), Is.EqualTo(Download(alone.Gate!)));
            Assert.That(given.HeadBeta, Is.EqualTo(alone.HeadBeta));
            Assert.That(given.HeadLambda, Is.EqualTo(alone.HeadLambda));
            Assert.That(given.Kappa, Is.EqualTo(alone.Kappa));
        });
    }

    [Test]
    public void Tensors_for_gradients_are_checked()
    {
        ThresholdCase test = new("wrong") { HeadDim = headDim, ValueDim = headDim };
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        using AttentionTensor outputGradient = OutputGradient(test);
        using AttentionTensor deviceGradient = outputGradient.To(Device);
        using AttentionTensor wide = AttentionTensor.Allocate(TensorType.Float32, test.OutputShape, Device);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using ThresholdDifferentialGradients gradients = attention.AllocateGradients(inputs.Tensors);
        Assert.Multiple(() =>
        {
            Assert.That(
                () => attention.Backward(inputs.Tensors, wide),
                Throws.ArgumentException.With.Message.Contains("outputGradient has elements of type Float32"));
            Assert.That(
                () => attention.Backward(
                    inputs.Tensors,
                    forward: null,
                    deviceGradient,
                    new ThresholdDifferentialGradients(gradients.Query1, gradients.Key1, null, gradients.Key2, gradients.Value)),
                Throws.ArgumentException.With.Message.Contains("Query2 or its gradient is absent"));
            Assert.That(
                () => attention.Backward(
                    inputs.Tensors,
                    forward: null,
                    deviceGradient,
                    new ThresholdDifferentialGradients(
                        gradients.Query1, gradients.Key1, gradients.Query2, gradients.Key2, gradients.Value, gate: wide)),
                Throws.ArgumentException.With.Message.Contains("only with a gate"));
            Assert.That(() => gradients.Beta, Throws.InvalidOperationException.With.Message.Contains("have not been computed"));
        });
    }

    private static double[] Download(AttentionTensor tensor)
    {
        using AttentionTensor host = tensor.ToHost();
        return Values.Doubles(host);
    }

    private AttentionTensor OutputGradient(ThresholdCase test)
    {
        using AttentionTensor exact = test.OutputGradient();
        return Values.Tensor(HostArray<double>.Read(exact), type);
    }

    private PlainBackward.Gradients Plain(ThresholdCase test, ThresholdDifferentialInputs host, AttentionTensor outputGradient)
    {
        HostArray<float> Read(AttentionTensor? tensor, TensorShape shape) => tensor is null ? new(shape) : HostArray<float>.Read(tensor);
        return new PlainBackward(
            type,
            test.Problem,
            test.Options,
            [Read(host.Query1, test.QueryShape), Read(host.Query2, test.QueryShape)],
            [Read(host.Key1, test.KeyShape), Read(host.Key2, test.KeyShape)],
            HostArray<float>.Read(host.Value)).Backward(
                HostArray<float>.Read(outputGradient),
                new PlainEpilogue(
                    test.Options.Epilogue,
                    host.NormGain is null ? null : HostArray<float>.Read(host.NormGain).Data,
                    host.Gate is null ? null : HostArray<float>.Read(host.Gate).Data));
    }

    private void AssertWithin(AttentionTensor? actual, float[] plain, AttentionTensor? expected, string name)
    {
        Assert.That(actual is null, Is.EqualTo(expected is null), name);
        if (actual is not null)
        {
            string? violation = KernelTolerance.Violation(
                Download(actual),
                Array.ConvertAll(plain, value => (double)value),
                Values.Doubles(expected!),
                type,
                out string report,
                factor: 3);
            Assert.That(violation, Is.Null, $"{name}: {report}");
        }
    }

    // Sums over rows cancel: what is left is held to the size of the heads' own sums, and to 1.
    private static void AssertSum(double actual, double expected, IReadOnlyList<double> heads, string name)
    {
        double size = 1 + Math.Abs(expected) + heads.Sum(Math.Abs);
        Assert.That(actual, Is.EqualTo(expected).Within(0.02 * size), name);
    }
}
