using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>The public operator on the devices that compute in host memory.</summary>
internal sealed class ThresholdDifferentialHostTests
{
    private static readonly ThresholdCase s_case = new("host")
    {
        Batch = 2,
        QueryHeads = 4,
        KeyHeads = 2,
        Queries = 7,
        Keys = 9,
        Gate = true,
        Gain = true,
        ValueDim = 5,
        Options = new ThresholdDifferentialOptions
        {
            Beta = 0.3,
            Lambda = 0.5,
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-4 },
        },
    };

    [TestCase("reference", TensorType.Float64)]
    [TestCase("cpu", TensorType.Float32)]
    public void Results_have_the_precision_of_the_device(string device, TensorType type)
    {
        using ThresholdDifferentialResult result = new ThresholdDifferentialAttention(AttentionDevice.Parse(device), s_case.Options)
            .Forward(s_case.Inputs());
        Assert.Multiple(() =>
        {
            Assert.That(result.Output.Type, Is.EqualTo(type));
            Assert.That(result.Output.Shape, Is.EqualTo(s_case.OutputShape));
            Assert.That(result.Survivors1.Shape, Is.EqualTo(new TensorShape(2, 4, 7, 1)));
            Assert.That(result.Survivors2, Is.Not.Null);
        });
    }

    [TestCase("reference")]
    [TestCase("cpu")]
    public void Beta_and_lambda_may_differ_from_head_to_head(string name)
    {
        double[] beta = [0.3, 0.1, -0.2, 0.5];
        double[] lambda = [0.5, 0, 0.7, -0.4];
        AttentionDevice device = AttentionDevice.Parse(name);
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        using AttentionTensor upstream = Values.Tensor(Values.Normal(new Random(5), s_case.OutputShape.Count), s_case.OutputShape, TensorType.Float64);
        ThresholdDifferentialAttention perHead = new(device, s_case.Options with { HeadBeta = beta, HeadLambda = lambda });
        using ThresholdDifferentialResult result = perHead.Forward(inputs);
        using ThresholdDifferentialGradients gradients = perHead.Backward(inputs, upstream);
        for (int h = 0; h < beta.Length; h++)
        {
            ThresholdDifferentialAttention alone = new(device, s_case.Options with { Beta = beta[h], Lambda = lambda[h] });
            using ThresholdDifferentialResult expected = alone.Forward(inputs);
            using ThresholdDifferentialGradients expectedGradients = alone.Backward(inputs, upstream);
            Assert.Multiple(() =>
            {
                Assert.That(Values.Doubles(result.Output.Slice(1, h, 1)), Is.EqualTo(Values.Doubles(expected.Output.Slice(1, h, 1))));
                Assert.That(gradients.HeadBeta[h], Is.EqualTo(expectedGradients.HeadBeta[h]).Within(1e-12));
                Assert.That(gradients.HeadLambda[h], Is.EqualTo(expectedGradients.HeadLambda[h]).Within(1e-12));
            });
        }

        Assert.That(gradients.Beta, Is.EqualTo(gradients.HeadBeta.Sum()));
        Assert.That(
            () => new ThresholdDifferentialAttention(device, s_case.Options with { HeadBeta = [1, 2] }).Forward(inputs),
            Throws.ArgumentException.With.Message.Contains("HeadBeta has 2 values").And.Message.Contains("4 query heads"));
        Assert.That(
            () => new ThresholdDifferentialAttention(device, s_case.Options with { HeadLambda = [1, double.NaN, 0, 0] }),
            Throws.InstanceOf<ArgumentOutOfRangeException>().With.Message.Contains("HeadLambda"));
    }

    [TestCase("reference")]
    [TestCase("cpu")]
    public void Strides_of_inputs_do_not_matter(string name)
    {
        ThresholdDifferentialAttention attention = new(AttentionDevice.Parse(name), s_case.Options);
        ThresholdDifferentialInputs dense = s_case.Inputs(TensorType.BFloat16);
        ThresholdDifferentialInputs strided = dense with
        {
            Query1 = SequenceFirst(dense.Query1),
            Key1 = SequenceFirst(dense.Key1),
            Query2 = SequenceFirst(dense.Query2!),
            Key2 = SequenceFirst(dense.Key2!),
            Value = SequenceFirst(dense.Value),
            Gate = SequenceFirst(dense.Gate!),
        };
        using ThresholdDifferentialResult expected = attention.Forward(dense);
        using ThresholdDifferentialResult actual = attention.Forward(strided);
        Assert.That(Values.Doubles(actual.Output), Is.EqualTo(Values.Doubles(expected.Output)));
        Assert.That(actual.Survivors1.AsSpan<int>().ToArray(), Is.EqualTo(expected.Survivors1.AsSpan<int>().ToArray()));
    }

    [Test]
    public void Results_are_rounded_once_into_the_callers_strided_tensors(
        [Values(TensorType.Float64, TensorType.Float32, TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        ThresholdDifferentialAttention attention = new(AttentionDevice.Reference, s_case.Options);
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        using ThresholdDifferentialResult expected = attention.Forward(inputs);
        using AttentionTensor large = AttentionTensor.Allocate(type, new TensorShape(2, 7, 4, 8));
        using AttentionTensor counts = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(2, 7, 4, 2));
        using ThresholdDifferentialResult into = new(
            large.Permute(0, 2, 1, 3).Slice(3, 1, 5), counts.Permute(0, 2, 1, 3).Slice(3, 0, 1), counts.Permute(0, 2, 1, 3).Slice(3, 1, 1));
        attention.Forward(inputs, into);
        Assert.That(
            Values.Doubles(into.Output), Is.EqualTo(Array.ConvertAll(Values.Doubles(expected.Output), value => Values.Round(value, type))));
        using AttentionTensor survivors2 = into.Survivors2!.ToHost();
        Assert.That(survivors2.AsSpan<int>().ToArray(), Is.EqualTo(expected.Survivors2!.AsSpan<int>().ToArray()));
        using AttentionTensor gap = large.Slice(3, 0, 1);
        Assert.That(Values.Doubles(gap), Has.All.Zero);
    }

    [Test]
    public void Survivors_of_an_unweighted_second_view_are_counted()
    {
        ThresholdDifferentialAttention attention = new(AttentionDevice.Reference, s_case.Options with { Lambda = 0 });
        using ThresholdDifferentialResult result = attention.Forward(s_case.Inputs());
        Assert.That(result.Survivors2!.AsSpan<int>().ToArray().Sum(), Is.GreaterThan(0));
    }

    [Test]
    public void A_single_view_has_no_second_results()
    {
        ThresholdCase test = s_case with { SecondView = false, Options = s_case.Options with { Lambda = 0 } };
        ThresholdDifferentialAttention attention = new(AttentionDevice.Reference, test.Options);
        using ThresholdDifferentialResult result = attention.Forward(test.Inputs());
        using ThresholdDifferentialGradients gradients = attention.Backward(test.Inputs(), test.OutputGradient());
        Assert.Multiple(() =>
        {
            Assert.That(result.Survivors2, Is.Null);
            Assert.That(gradients.Query2, Is.Null);
            Assert.That(gradients.Key2, Is.Null);
            Assert.That(gradients.Lambda, Is.Zero);
        });
    }

    [Test]
    public void The_CPU_agrees_with_the_reference_on_both_passes()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs();
        ThresholdDifferentialAttention reference = new(AttentionDevice.Reference, s_case.Options);
        ThresholdDifferentialAttention cpu = new(AttentionDevice.Cpu, s_case.Options);
        using ThresholdDifferentialResult expected = reference.Forward(inputs);
        using ThresholdDifferentialResult actual = cpu.Forward(inputs);
        Assert.That(Deviation.Of(Values.Doubles(actual.Output), Values.Doubles(expected.Output)).Relative, Is.LessThanOrEqualTo(2e-4));
        using ThresholdDifferentialGradients expectedGradients = reference.Backward(inputs, s_case.OutputGradient());
        using ThresholdDifferentialGradients gradients = cpu.Backward(inputs, s_case.OutputGradient());
        Assert.That(
            Deviation.Of(Values.Doubles(gradients.Query1), Values.Doubles(expectedGradients.Query1)).Relative, Is.LessThanOrEqualTo(1e-3));
        Assert.That(gradients.Query1.Type, Is.EqualTo(TensorType.Float32));
    }

    private static AttentionTensor SequenceFirst(AttentionTensor tensor) => tensor.Permute(0, 2, 1, 3).ToHost().Permute(0, 2, 1, 3);
}
