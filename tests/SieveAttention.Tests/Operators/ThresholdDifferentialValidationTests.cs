using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Every bad input has one clear error: the name, the value received and what is allowed.</summary>
internal sealed class ThresholdDifferentialValidationTests
{
    private static readonly ThresholdCase s_case = new("valid") { QueryHeads = 4, KeyHeads = 2, Queries = 3, Keys = 5 };

    private static readonly TestCaseData<ThresholdDifferentialOptions, string, string>[] s_badOptions =
    [
        Bad(new() { Beta = double.NaN }, "Beta is NaN", "finite"),
        Bad(new() { Beta = double.PositiveInfinity }, "Beta is Infinity", "finite"),
        Bad(new() { Kappa = 0 }, "Kappa is 0", "greater than 0"),
        Bad(new() { Kappa = -1.5 }, "Kappa is -1.5", "greater than 0"),
        Bad(new() { Kappa = double.NaN }, "Kappa is NaN", "greater than 0"),
        Bad(new() { Lambda = double.NaN }, "Lambda is NaN", "finite"),
        Bad(new() { Lambda = double.NegativeInfinity }, "Lambda is -Infinity", "finite"),
        Bad(new() { Power = 0.5 }, "Power is 0.5", "at least 1"),
        Bad(new() { Power = double.NaN }, "Power is NaN", "at least 1"),
        Bad(new() { Screen = KeyScreen.FourBits }, "Screen is FourBits", "None, EightBits"),
        Bad(new() { Mask = new AttentionMask { Window = 0 } }, "Window is 0", "1 to"),
        Bad(
            new() { Mask = new AttentionMask { QueryOffset = long.MinValue } },
            "QueryOffset is -9223372036854775808",
            "-4611686018427387904 to 4611686018427387904"),
        Bad(new() { Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms } }, "NormEpsilon is absent", "because Norm is Rms"),
        Bad(new() { Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = -1e-6 } }, "NormEpsilon is -1E-06", "at least 0"),
        Bad(
            new() { Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = double.NaN } },
            "NormEpsilon is NaN",
            "at least 0"),
        Bad(new() { Epilogue = new OutputEpilogue { OutputScale = double.NaN } }, "OutputScale is NaN", "finite"),
        Bad(new() { Epilogue = new OutputEpilogue { Norm = (OutputNorm)7 } }, "Norm is 7", "None, Rms"),
    ];

    private static readonly AttentionDevice[] s_devices = [AttentionDevice.Reference, AttentionDevice.Cpu];

    [TestCaseSource(nameof(s_badOptions))]
    public void A_parameter_out_of_range_is_refused(ThresholdDifferentialOptions options, string received, string allowed)
    {
        Assert.That(
            () => new ThresholdDifferentialAttention(AttentionDevice.Reference, options),
            Throws.TypeOf<ArgumentOutOfRangeException>()
                .With.Message.Contains(received).And.Message.Contains(allowed)
                .And.Property(nameof(ArgumentException.ParamName)).EqualTo(received[..received.IndexOf(' ', StringComparison.Ordinal)]));
    }

    [TestCaseSource(nameof(s_devices))]
    public void A_misshapen_tensor_is_named_with_its_shape_and_the_expected_one(AttentionDevice device)
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        Assert.Multiple(() =>
        {
            AssertRefused(device, inputs with { Key1 = inputs.Key1.Slice(3, 0, 7) }, "Key1", "[1, 2, 5, 7]", "head_dim] = [1, 2, 5, 8]");
            AssertRefused(
                device, inputs with { Value = inputs.Value.Slice(2, 0, 4) }, "Value", "[1, 2, 4, 8]", "value_dim] = [1, 2, 5, 8]");
            AssertRefused(device, inputs with { Value = inputs.Value.Slice(1, 0, 1) }, "Value", "[1, 1, 5, 8]", "[1, 2, 5, 8]");
            AssertRefused(device, inputs with { Query2 = inputs.Query2!.Slice(2, 0, 2) }, "Query2", "[1, 4, 2, 8]", "[1, 4, 3, 8]");
            AssertRefused(device, inputs with { Key2 = inputs.Key2!.Slice(1, 0, 1) }, "Key2", "[1, 1, 5, 8]", "[1, 2, 5, 8]");
            AssertRefused(device, inputs with { Query1 = inputs.Query1.Slice(1, 0, 3) }, "Query1", "3 heads", "multiple");
            AssertRefused(
                device, inputs with { Gate = inputs.Query1.Slice(3, 0, 2) }, "Gate", "[1, 4, 3, 2]", "[1, 4, 3, 1]");
        });
    }

    [Test]
    public void A_second_view_is_given_as_a_whole_or_not_at_all()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        Assert.Multiple(() =>
        {
            AssertRefused(AttentionDevice.Reference, inputs with { Query2 = null }, "Query2", "absent", "both or none");
            AssertRefused(AttentionDevice.Reference, inputs with { Key2 = null }, "Key2", "absent", "both or none");
            AssertRefused(
                AttentionDevice.Reference,
                inputs with { Query2 = null, Key2 = null },
                "Query2",
                "Lambda is 0.5",
                "absent with Lambda = 0 only");
        });
    }

    [Test]
    public void A_gain_needs_a_norm_and_one_element_for_each_channel()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        AttentionTensor gain = AttentionTensor.Allocate(TensorType.Float64, new TensorShape(1, 1, 1, 7));
        AssertRefused(AttentionDevice.Reference, inputs with { NormGain = gain }, "NormGain", "Norm is None", "Norm = Rms only");
        ThresholdDifferentialOptions rms = new() { Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-5 } };
        Assert.That(
            () => new ThresholdDifferentialAttention(AttentionDevice.Reference, rms).Forward(inputs with { NormGain = gain }),
            Throws.ArgumentException.With.Message.Contains("[1, 1, 1, 7]").And.Message.Contains("[1, 1, 1, 8]"));
    }

    [Test]
    public void Integers_are_not_inputs()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        AttentionTensor integers = AttentionTensor.Allocate(TensorType.Int32, inputs.Query1.Shape);
        AssertRefused(
            AttentionDevice.Reference, inputs with { Query1 = integers }, "Query1", "Int32", "Float64, Float32, Float16, BFloat16");
    }

    [Test]
    public void A_missing_tensor_is_named()
    {
        Assert.That(
            () => Operator().Forward(s_case.Inputs() with { Value = null! }),
            Throws.ArgumentNullException.With.Property(nameof(ArgumentException.ParamName)).EqualTo("Value"));
    }

    [Test]
    public void A_released_tensor_is_refused()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        inputs.Key1.Dispose();
        Assert.That(
            () => Operator().Forward(inputs), Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(AttentionTensor)));
    }

    [Test]
    public void Outputs_are_checked_too()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        AttentionTensor output = AttentionTensor.Allocate(TensorType.Float64, s_case.OutputShape);
        AttentionTensor counts = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 4, 3, 1));
        AttentionTensor wrong = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 4, 3, 2));
        AttentionTensor readOnly = AttentionTensor.FromReadOnly<double>(new double[96], s_case.OutputShape);
        AttentionTensor repeated = AttentionTensor.From<double>(new double[96], s_case.OutputShape, new TensorStrides(96, 24, 0, 1));
        Assert.Multiple(() =>
        {
            AssertOutputRefused(inputs, new(counts, counts), "Output has shape [1, 4, 3, 1]");
            AssertOutputRefused(inputs, new(output, wrong), "Survivors1 has shape [1, 4, 3, 2]");
            AssertOutputRefused(inputs, new(output, output.Slice(3, 0, 1)), "Survivors1 has elements of type Float64; allowed: Int32");
            AssertOutputRefused(inputs, new(readOnly, counts), "Output is read-only");
            AssertOutputRefused(inputs, new(repeated, counts), "Output has shape [1, 4, 3, 8] and strides [96, 24, 0, 1]");
            Assert.That(
                () => new ThresholdDifferentialAttention(AttentionDevice.Reference)
                    .Forward(inputs with { Query2 = null, Key2 = null }, new(output, counts, counts)),
                Throws.ArgumentException.With.Message.Contains("Survivors2 is given, but Query2 is absent"));
        });
    }

    [Test]
    public void An_upstream_gradient_of_the_wrong_shape_is_refused()
    {
        AttentionTensor gradient = AttentionTensor.Allocate(TensorType.Float64, new TensorShape(1, 4, 3, 9));
        Assert.That(
            () => Operator().Backward(s_case.Inputs(), gradient),
            Throws.ArgumentException.With.Message.Contains("outputGradient has shape [1, 4, 3, 9]").And.Message.Contains("[1, 4, 3, 8]"));
    }

    private static TestCaseData<ThresholdDifferentialOptions, string, string> Bad(
        ThresholdDifferentialOptions options, string received, string allowed) => new(options, received, allowed);

    private static ThresholdDifferentialAttention Operator() => new(AttentionDevice.Reference, s_case.Options);

    private static void AssertRefused(
        AttentionDevice device, ThresholdDifferentialInputs inputs, string name, string received, string allowed)
    {
        Assert.That(
            () => new ThresholdDifferentialAttention(device, s_case.Options).Forward(inputs),
            Throws.TypeOf<ArgumentException>()
                .With.Property(nameof(ArgumentException.ParamName)).EqualTo(name)
                .And.Message.Contains(received).And.Message.Contains(allowed));
    }

    private static void AssertOutputRefused(ThresholdDifferentialInputs inputs, ThresholdDifferentialResult into, string message) =>
        Assert.That(() => Operator().Forward(inputs, into), Throws.ArgumentException.With.Message.Contains(message));
}
