using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>Properties of grouped differential attention that hold for every input; random cases.</summary>
internal sealed class GroupedDifferentialPropertyTests
{
    [Test]
    public void The_output_is_what_the_formulas_say()
    {
        Properties.ForAllSeeds(seed =>
        {
            GroupedDifferentialCase test = GroupedDifferentialCase.Random(seed);
            GroupedDifferentialInputs inputs = test.Inputs();
            (HostArray<double> heads, double[] lse) = Heads(test, inputs);
            HostArray<double> x = Difference(test, heads, inputs.LambdaLogit);
            double[] y = SoftmaxDefinition.Epilogue(test.Options.Epilogue, inputs.NormGain, inputs.Gate, x);
            using GroupedDifferentialResult result = test.Operator().Forward(inputs);
            Assert.That(Values.Doubles(result.Output), Is.EqualTo(y).Within(1e-10), test.ToString());
            Assert.That(Values.Doubles(result.LogSumExp), Is.EqualTo(lse).Within(1e-10), test.ToString());
        });
    }

    [TestCase(double.NegativeInfinity, 0)]
    [TestCase(-1000, 0)]
    [TestCase(0, 0.5)]
    [TestCase(1000, 1)]
    public void The_logit_weighs_the_noise(double logit, double weight)
    {
        Properties.ForAllSeeds(seed =>
        {
            GroupedDifferentialCase test = GroupedDifferentialCase.Random(seed);
            test = test with { Gain = false, Gate = false, Options = test.Options with { Epilogue = new OutputEpilogue() } };
            double[] logits = new double[test.OutputRowShape.Count];
            Array.Fill(logits, logit);
            GroupedDifferentialInputs inputs = test.Inputs() with { LambdaLogit = Values.Tensor(logits, test.OutputRowShape) };
            HostArray<double> heads = Heads(test, inputs).Output;
            double[] y = test.Forward(inputs);
            for (int e = 0; e < y.Length; e++)
            {
                (double signal, double noise) = Pair(test, heads, e);
                Assert.That(y[e], Is.EqualTo(signal - (weight * noise)).Within(1e-12), test.ToString());
            }

            using GroupedDifferentialGradients gradients = test.Operator().Backward(inputs, test.OutputGradient());
            Assert.That(Values.Doubles(gradients.LambdaLogit).All(double.IsFinite), test.ToString());
        });
    }

    [Test]
    public void Permuting_the_signals_of_a_group_permutes_the_output()
    {
        GroupedDifferentialCase test = new("three signals")
        {
            Groups = 2, KeyHeads = 2, Options = new GroupedDifferentialOptions { Signals = 3 },
        };
        GroupedDifferentialInputs inputs = test.Inputs();
        GroupedDifferentialInputs permuted = inputs with
        {
            Query = Reordered(inputs.Query, [2, 0, 1, 3, 4, 5, 6, 7]),
            LambdaLogit = Reordered(inputs.LambdaLogit, [2, 0, 1, 3, 4, 5]),
        };
        using AttentionTensor expected = Reordered(Values.Tensor(test.Forward(inputs), test.OutputShape), [2, 0, 1, 3, 4, 5]);
        Assert.That(test.Forward(permuted), Is.EqualTo(Values.Doubles(expected)));
    }

    [Test]
    public void Pairs_with_a_constant_logit_are_differential_attention_of_the_first_version()
    {
        Properties.ForAllSeeds(seed =>
        {
            GroupedDifferentialCase test = GroupedDifferentialCase.Random(seed);
            double logit = (seed % 7) - 3;
            // One key head for each pair, so that both operators group the heads alike.
            test = test with
            {
                KeyHeads = test.Groups,
                Gate = false,
                Options = test.Options with { Signals = 1, Scores = new ScoreOptions { Scale = 0.7 } },
            };
            double[] logits = new double[test.OutputRowShape.Count];
            Array.Fill(logits, logit);
            GroupedDifferentialInputs inputs = test.Inputs() with { LambdaLogit = Values.Tensor(logits, test.OutputRowShape) };
            DifferentialOptions first = new()
            {
                Lambda = [1 / (1 + Math.Exp(-logit))],
                Scores = test.Options.Scores,
                Mask = test.Options.Mask,
                Epilogue = test.Options.Epilogue,
            };
            DifferentialInputs views = new()
            {
                Query1 = Reordered(inputs.Query, [.. Enumerable.Range(0, test.Groups).Select(g => 2 * g)]),
                Query2 = Reordered(inputs.Query, [.. Enumerable.Range(0, test.Groups).Select(g => (2 * g) + 1)]),
                Key1 = inputs.Key,
                Key2 = inputs.Key,
                Value = inputs.Value,
                NormGain = inputs.NormGain,
            };
            DifferentialAttention attention = new(AttentionDevice.Reference, first);
            using DifferentialResult result = attention.Forward(views);
            Assert.That(test.Forward(inputs), Is.EqualTo(Values.Doubles(result.Output)).Within(1e-12), test.ToString());
            using DifferentialGradients expected = attention.Backward(views, test.OutputGradient());
            using GroupedDifferentialGradients gradients = test.Operator().Backward(inputs, test.OutputGradient());
            double[] dk = [.. Values.Doubles(expected.Key1).Zip(Values.Doubles(expected.Key2), (a, b) => a + b)];
            double scale = 1 + dk.Max(Math.Abs);
            Assert.That(Values.Doubles(gradients.Key), Is.EqualTo(dk).Within(1e-11 * scale), test.ToString());
            double dlogit = expected.Lambda[0] * first.Lambda[0] * (1 - first.Lambda[0]);
            Assert.That(Values.Doubles(gradients.LambdaLogit).Sum(), Is.EqualTo(dlogit).Within(1e-10 * scale), test.ToString());
        });
    }

    [Test]
    public void Rows_without_a_visible_key_are_zero_and_have_no_gradient()
    {
        GroupedDifferentialCase test = new("nothing visible");
        test = test with { Options = test.Options with { Mask = new AttentionMask { QueryOffset = -test.Queries } } };
        using GroupedDifferentialResult result = test.Operator().Forward(test.Inputs());
        Assert.That(Values.Doubles(result.Output), Has.All.Zero);
        Assert.That(Values.Doubles(result.LogSumExp), Has.All.EqualTo(double.NegativeInfinity));
        using GroupedDifferentialGradients gradients = test.Operator().Backward(test.Inputs(), test.OutputGradient());
        Assert.That(Values.Doubles(gradients.Query), Has.All.Zero);
        Assert.That(Values.Doubles(gradients.Value), Has.All.Zero);
        Assert.That(Values.Doubles(gradients.LambdaLogit), Has.All.Zero);
    }

    private static (HostArray<double> Output, double[] LogSumExp) Heads(GroupedDifferentialCase test, GroupedDifferentialInputs inputs) =>
        SoftmaxDefinition.Forward(
            test.Options.Mask,
            test.Options.Scores,
            HostArray<double>.Read(inputs.Query),
            HostArray<double>.Read(inputs.Key),
            HostArray<double>.Read(inputs.Value));

    private static HostArray<double> Difference(GroupedDifferentialCase test, HostArray<double> heads, AttentionTensor lambdaLogit)
    {
        double[] logits = Values.Doubles(lambdaLogit);
        HostArray<double> x = new(test.OutputShape);
        for (int e = 0; e < x.Data.Length; e++)
        {
            (double signal, double noise) = Pair(test, heads, e);
            x.Data[e] = signal - (noise / (1 + Math.Exp(-logits[e / test.ValueDim])));
        }

        return x;
    }

    /// <summary>What an element of the output is made of: the element of its signal head and that of the last head of the group.</summary>
    private static (double Signal, double Noise) Pair(GroupedDifferentialCase test, HostArray<double> heads, int element)
    {
        int channel = element % test.ValueDim;
        int row = element / test.ValueDim % test.Queries;
        int head = element / test.ValueDim / test.Queries % test.OutputShape.Heads;
        int batch = element / test.ValueDim / test.Queries / test.OutputShape.Heads;
        int group = head / test.Options.Signals;
        int first = group * (test.Options.Signals + 1);
        return (
            heads.Row(batch, first + (head % test.Options.Signals), row)[channel],
            heads.Row(batch, first + test.Options.Signals, row)[channel]);
    }

    private static AttentionTensor Reordered(AttentionTensor tensor, int[] heads)
    {
        AttentionTensor target = AttentionTensor.Allocate(TensorType.Float64, tensor.Shape with { Heads = heads.Length });
        for (int h = 0; h < heads.Length; h++)
        {
            tensor.Slice(1, heads[h], 1).CopyTo(target.Slice(1, h, 1));
        }

        return target;
    }
}
