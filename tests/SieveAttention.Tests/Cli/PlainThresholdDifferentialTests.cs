using NUnit.Framework;
using SieveAttention.Tests.Support;
using PlainBackward = SieveAttention.Cli.Verification.PlainThresholdDifferential;
using PlainEpilogue = SieveAttention.Cli.Verification.PlainEpilogue;

namespace SieveAttention.Tests.Cli;

/// <summary>The yardstick of kernels is itself near the reference: as near as its type allows.</summary>
internal sealed class PlainThresholdDifferentialTests
{
    [TestCase(TensorType.BFloat16, 0.02)]
    [TestCase(TensorType.Float16, 0.003)]
    public void Gradients_are_those_of_the_reference_up_to_rounding(TensorType type, double tolerance)
    {
        ThresholdCase test = new("plain")
        {
            Batch = 2,
            QueryHeads = 4,
            Queries = 30,
            Keys = 37,
            HeadDim = 16,
            ValueDim = 24,
            Gain = true,
            Gate = true,
            Options = new ThresholdDifferentialOptions
            {
                Beta = 0.3, Lambda = 0.5, Kappa = 1.5, Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-3, OutputScale = 0.7 },
            },
        };
        ThresholdDifferentialInputs inputs = test.Inputs(type);
        using AttentionTensor exactGradient = test.OutputGradient();
        using AttentionTensor outputGradient = Values.Tensor(HostArray<double>.Read(exactGradient), type);
        using ThresholdDifferentialGradients exact =
            new ThresholdDifferentialAttention(AttentionDevice.Reference, test.Options).Backward(inputs, outputGradient);
        PlainBackward.Gradients plain = new PlainBackward(
            type,
            test.Problem,
            test.Options,
            [HostArray<float>.Read(inputs.Query1), HostArray<float>.Read(inputs.Query2!)],
            [HostArray<float>.Read(inputs.Key1), HostArray<float>.Read(inputs.Key2!)],
            HostArray<float>.Read(inputs.Value)).Backward(
                HostArray<float>.Read(outputGradient),
                new PlainEpilogue(test.Options.Epilogue, HostArray<float>.Read(inputs.NormGain!).Data, HostArray<float>.Read(inputs.Gate!).Data));
        Assert.Multiple(() =>
        {
            AssertNear(plain.Queries[0].Data, exact.Query1, "Query1");
            AssertNear(plain.Keys[0].Data, exact.Key1, "Key1");
            AssertNear(plain.Queries[1].Data, exact.Query2!, "Query2");
            AssertNear(plain.Keys[1].Data, exact.Key2!, "Key2");
            AssertNear(plain.Value.Data, exact.Value, "Value");
            AssertNear(plain.NormGain, exact.NormGain!, "NormGain");
            AssertNear(plain.Gate.Data, exact.Gate!, "Gate");
            Assert.That(plain.Beta, Is.EqualTo(exact.Beta).Within(tolerance * (1 + Math.Abs(exact.Beta))), "Beta");
            Assert.That(plain.Kappa, Is.EqualTo(exact.Kappa).Within(tolerance * (1 + Math.Abs(exact.Kappa))), "Kappa");
            Assert.That(plain.Lambda, Is.EqualTo(exact.Lambda).Within(tolerance * (1 + Math.Abs(exact.Lambda))), "Lambda");
        });

        void AssertNear(float[] actual, AttentionTensor expected, string name) => Assert.That(
            Deviation.Of(Array.ConvertAll(actual, value => (double)value), Values.Doubles(expected)).Relative, Is.LessThan(tolerance), name);
    }
}
