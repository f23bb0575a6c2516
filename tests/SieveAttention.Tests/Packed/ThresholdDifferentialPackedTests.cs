using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Packed;

[TestFixture]
internal sealed class ThresholdDifferentialPackedTests
{
    private static readonly PackedSequences s_sequences = new([0, 5, 5, 12, 13], [0, 9, 11, 18, 24]);

    private static readonly ThresholdCase s_case = new("packed")
    {
        Batch = 2,
        QueryHeads = 4,
        Queries = 13,
        Keys = 24,
        Gain = true,
        Gate = true,
        Options = new ThresholdDifferentialOptions
        {
            Beta = 0.3,
            Lambda = 0.4,
            Mask = new AttentionMask { Window = 6 },
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-3 },
        },
    };

    [TestCaseSource(typeof(PackedParts), nameof(PackedParts.Devices))]
    public void Forward_gives_what_each_sequence_gives_alone(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, s_case.Options);
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        using ThresholdDifferentialResult packed = attention.Forward(inputs, s_sequences);
        for (int n = 0; n < s_sequences.Count; n++)
        {
            if (s_sequences.Queries(n).Count > 0)
            {
                using ThresholdDifferentialResult alone = attention.Forward(Alone(inputs, n));
                Assert.That(Values.Doubles(Rows(packed.Output, n)), Is.EqualTo(Values.Doubles(alone.Output)), $"sequence {n}");
                Assert.That(Counts(Rows(packed.Survivors1, n)), Is.EqualTo(Counts(alone.Survivors1)), $"sequence {n}");
                Assert.That(Counts(Rows(packed.Survivors2!, n)), Is.EqualTo(Counts(alone.Survivors2!)), $"sequence {n}");
            }
        }
    }

    [TestCaseSource(typeof(PackedParts), nameof(PackedParts.Devices))]
    public void Gradients_of_shared_inputs_are_sums_over_sequences(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, s_case.Options);
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        AttentionTensor dout = s_case.OutputGradient();
        using ThresholdDifferentialGradients packed = attention.Backward(inputs, dout, s_sequences);
        double beta = 0;
        double lambda = 0;
        double[] gain = new double[s_case.ValueDim];
        for (int n = 0; n < s_sequences.Count; n++)
        {
            if (s_sequences.Queries(n).Count > 0)
            {
                using ThresholdDifferentialGradients alone = attention.Backward(Alone(inputs, n), Rows(dout, n));
                Assert.That(Values.Doubles(Rows(packed.Query2!, n)), Is.EqualTo(Values.Doubles(alone.Query2!)), $"sequence {n}");
                Assert.That(Values.Doubles(Rows(packed.Gate!, n)), Is.EqualTo(Values.Doubles(alone.Gate!)), $"sequence {n}");
                Assert.That(Values.Doubles(Keys(packed.Key1, n)), Is.EqualTo(Values.Doubles(alone.Key1)), $"sequence {n}");
                Assert.That(Values.Doubles(Keys(packed.Value, n)), Is.EqualTo(Values.Doubles(alone.Value)), $"sequence {n}");
                beta += alone.Beta;
                lambda += alone.Lambda;
                gain = gain.Zip(Values.Doubles(alone.NormGain!), (sum, part) => sum + part).ToArray();
            }
        }

        Assert.That(Values.Doubles(Keys(packed.Key1, 1)), Is.All.Zero, "keys of a sequence without queries");
        Assert.That(packed.Beta, Is.EqualTo(beta).Within(1e-12).Percent);
        Assert.That(packed.Lambda, Is.EqualTo(lambda).Within(1e-12).Percent);
        Assert.That(Deviation.Of(Values.Doubles(packed.NormGain!), gain).Relative, Is.LessThan(1e-6));
    }

    [Test]
    public void Tensors_with_other_numbers_of_rows_are_refused() => Assert.That(
        () => new ThresholdDifferentialAttention(AttentionDevice.Cpu, s_case.Options).Forward(
            s_case.Inputs(), new PackedSequences([0, 13], [0, 20])),
        Throws.ArgumentException.With.Message.Contains("Key1 has shape [2, 2, 24, 8]; the packed sequences have 20 key rows."));

    private static ThresholdDifferentialInputs Alone(ThresholdDifferentialInputs inputs, int n) => inputs with
    {
        Query1 = Rows(inputs.Query1, n),
        Key1 = Keys(inputs.Key1, n),
        Value = Keys(inputs.Value, n),
        Query2 = Rows(inputs.Query2!, n),
        Key2 = Keys(inputs.Key2!, n),
        Gate = Rows(inputs.Gate!, n),
    };

    private static AttentionTensor Rows(AttentionTensor tensor, int n) =>
        tensor.Slice(2, s_sequences.Queries(n).First, s_sequences.Queries(n).Count);

    private static AttentionTensor Keys(AttentionTensor tensor, int n) =>
        tensor.Slice(2, s_sequences.Keys(n).First, s_sequences.Keys(n).Count);

    private static int[] Counts(AttentionTensor counts)
    {
        using AttentionTensor dense = counts.ToHost();
        return dense.AsSpan<int>().ToArray();
    }
}
