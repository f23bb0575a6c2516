using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Both differential operators as a caller sees them: precision, types, strides.</summary>
internal sealed class DifferentialHostTests
{
    private static readonly DifferentialCase s_case = new("host")
    {
        Batch = 2, QueryHeads = 4, KeyHeads = 2, Queries = 7, Keys = 9, ValueDim = 5, Gate = true, Vectors = true,
        Options = new DifferentialOptions { LambdaInit = 0.47 },
    };

    private static readonly GroupedDifferentialCase s_grouped = new("host")
    {
        Batch = 2, Groups = 2, KeyHeads = 2, Queries = 7, Keys = 9, ValueDim = 5, Gate = true,
        Options = new GroupedDifferentialOptions { Signals = 2 },
    };

    [TestCase("reference", TensorType.Float64)]
    [TestCase("cpu", TensorType.Float32)]
    public void Results_and_gradients_have_the_precision_of_the_device(string name, TensorType type)
    {
        AttentionDevice device = AttentionDevice.Parse(name);
        using DifferentialResult result = s_case.Operator(device).Forward(s_case.Inputs());
        using DifferentialGradients gradients = s_case.Operator(device).Backward(s_case.Inputs(), s_case.OutputGradient());
        using GroupedDifferentialResult grouped = s_grouped.Operator(device).Forward(s_grouped.Inputs());
        using GroupedDifferentialGradients groupedGradients =
            s_grouped.Operator(device).Backward(s_grouped.Inputs(), s_grouped.OutputGradient());
        Assert.Multiple(() =>
        {
            Assert.That(result.Output.Shape, Is.EqualTo(s_case.OutputShape));
            Assert.That(gradients.LambdaVectors!.Shape, Is.EqualTo(new TensorShape(1, 1, 4, 4)));
            Assert.That(grouped.Output.Shape, Is.EqualTo(new TensorShape(2, 4, 7, 5)));
            Assert.That(grouped.LogSumExp.Shape, Is.EqualTo(new TensorShape(2, 6, 7, 1)));
            Assert.That(groupedGradients.Gate!.Shape, Is.EqualTo(new TensorShape(2, 4, 7, 1)));
            Assert.That(
                new[]
                {
                    result.Output, result.LogSumExp1, result.LogSumExp2, gradients.Query1, gradients.Key2, gradients.Value,
                    gradients.LambdaVectors, grouped.Output, grouped.LogSumExp, groupedGradients.Query, groupedGradients.LambdaLogit,
                }.Select(tensor => tensor.Type),
                Has.All.EqualTo(type));
        });
    }

    [TestCase("reference")]
    [TestCase("cpu")]
    public void Strides_of_inputs_do_not_matter(string name)
    {
        AttentionDevice device = AttentionDevice.Parse(name);
        DifferentialInputs dense = s_case.Inputs(TensorType.BFloat16);
        DifferentialInputs strided = dense with
        {
            Query1 = SequenceFirst(dense.Query1),
            Key1 = SequenceFirst(dense.Key1),
            Query2 = SequenceFirst(dense.Query2),
            Key2 = SequenceFirst(dense.Key2),
            Value = SequenceFirst(dense.Value),
            Gate = SequenceFirst(dense.Gate!),
        };
        using DifferentialResult expected = s_case.Operator(device).Forward(dense);
        using DifferentialResult actual = s_case.Operator(device).Forward(strided);
        Assert.That(Values.Doubles(actual.Output), Is.EqualTo(Values.Doubles(expected.Output)));

        GroupedDifferentialInputs denseGroups = s_grouped.Inputs(TensorType.Float16);
        GroupedDifferentialInputs stridedGroups = denseGroups with
        {
            Query = SequenceFirst(denseGroups.Query),
            LambdaLogit = SequenceFirst(denseGroups.LambdaLogit),
        };
        using GroupedDifferentialResult expectedGroups = s_grouped.Operator(device).Forward(denseGroups);
        using GroupedDifferentialResult actualGroups = s_grouped.Operator(device).Forward(stridedGroups);
        Assert.That(Values.Doubles(actualGroups.Output), Is.EqualTo(Values.Doubles(expectedGroups.Output)));
    }

    [Test]
    public void Results_are_rounded_once_into_the_callers_strided_tensors(
        [Values(TensorType.Float64, TensorType.Float32, TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        DifferentialInputs inputs = s_case.Inputs();
        using DifferentialResult expected = s_case.Operator().Forward(inputs);
        using AttentionTensor large = AttentionTensor.Allocate(type, new TensorShape(2, 7, 4, 8));
        using AttentionTensor rows = AttentionTensor.Allocate(TensorType.Float64, new TensorShape(2, 7, 4, 2));
        using DifferentialResult into = new(
            large.Permute(0, 2, 1, 3).Slice(3, 1, 5), rows.Permute(0, 2, 1, 3).Slice(3, 0, 1), rows.Permute(0, 2, 1, 3).Slice(3, 1, 1));
        s_case.Operator().Forward(inputs, into);
        Assert.That(
            Values.Doubles(into.Output), Is.EqualTo(Array.ConvertAll(Values.Doubles(expected.Output), value => Values.Round(value, type))));
        Assert.That(Values.Doubles(into.LogSumExp1), Is.EqualTo(Values.Doubles(expected.LogSumExp1)));
        Assert.That(Values.Doubles(into.LogSumExp2), Is.EqualTo(Values.Doubles(expected.LogSumExp2)));
    }

    private static AttentionTensor SequenceFirst(AttentionTensor tensor) => tensor.Permute(0, 2, 1, 3).ToHost().Permute(0, 2, 1, 3);
}
