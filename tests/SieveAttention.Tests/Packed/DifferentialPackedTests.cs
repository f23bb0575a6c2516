using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Packed;

/// <summary>Differential attention, with two views and with groups of heads, of packed sequences.</summary>
[TestFixtureSource(typeof(PackedParts), nameof(PackedParts.Devices))]
internal sealed class DifferentialPackedTests(AttentionDevice device)
{
    private static readonly OutputEpilogue s_epilogue = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-3 };

    [Test]
    public void Two_views_give_what_each_sequence_gives_alone()
    {
        PackedParts parts = new();
        AttentionTensor dout = parts.Output(PackedParts.QueryHeads);
        double[] small = Array.ConvertAll(Values.Normal(new Random(1), 4 * PackedParts.HeadDim), x => 0.2 * x);
        AttentionTensor vectors = Values.Tensor(small, new TensorShape(1, 1, 4, PackedParts.HeadDim));
        DifferentialInputs inputs = new()
        {
            Query1 = parts.Query(),
            Query2 = parts.Query(),
            Key1 = parts.Key(),
            Key2 = parts.Key(),
            Value = parts.Value(),
            LambdaVectors = vectors,
            NormGain = parts.Gain(),
            Gate = parts.Rows(PackedParts.QueryHeads),
        };
        DifferentialAttention attention = new(
            device, new DifferentialOptions { LambdaInit = 0.3, Epilogue = s_epilogue });
        using DifferentialResult packed = attention.Forward(inputs, PackedParts.Sequences);
        using DifferentialGradients gradients = attention.Backward(inputs, dout, PackedParts.Sequences);
        List<DifferentialGradients> all = [];
        foreach (int n in PackedParts.WithQueries)
        {
            DifferentialInputs own = inputs with
            {
                Query1 = PackedParts.Rows(inputs.Query1, n),
                Query2 = PackedParts.Rows(inputs.Query2, n),
                Key1 = PackedParts.Keys(inputs.Key1, n),
                Key2 = PackedParts.Keys(inputs.Key2, n),
                Value = PackedParts.Keys(inputs.Value, n),
                Gate = PackedParts.Rows(inputs.Gate, n),
            };
            using DifferentialResult alone = attention.Forward(own);
            PackedParts.SameRows(
                n, (packed.Output, alone.Output), (packed.LogSumExp1, alone.LogSumExp1), (packed.LogSumExp2, alone.LogSumExp2));
            DifferentialGradients g = attention.Backward(own, PackedParts.Rows(dout, n));
            PackedParts.SameRows(n, (gradients.Query1, g.Query1), (gradients.Query2, g.Query2), (gradients.Gate, g.Gate));
            PackedParts.SameKeys(n, (gradients.Key1, g.Key1), (gradients.Key2, g.Key2), (gradients.Value, g.Value));
            all.Add(g);
        }

        PackedParts.IsSum(device, gradients.Lambda, all.Select(g => g.Lambda.ToArray()));
        PackedParts.IsSum(device, Values.Doubles(gradients.LambdaVectors!), all.Select(g => Values.Doubles(g.LambdaVectors!)));
        PackedParts.IsSum(device, Values.Doubles(gradients.NormGain!), all.Select(g => Values.Doubles(g.NormGain!)));
    }

    [Test]
    public void Groups_give_what_each_sequence_gives_alone()
    {
        PackedParts parts = new();
        int heads = PackedParts.QueryHeads / 2;
        AttentionTensor dout = parts.Output(heads);
        GroupedDifferentialInputs inputs = new()
        {
            Query = parts.Query(),
            Key = parts.Key(),
            Value = parts.Value(),
            LambdaLogit = parts.Rows(heads),
            NormGain = parts.Gain(),
            Gate = parts.Rows(heads),
        };
        GroupedDifferentialAttention attention = new(device, new GroupedDifferentialOptions { Epilogue = s_epilogue });
        using GroupedDifferentialResult packed = attention.Forward(inputs, PackedParts.Sequences);
        using GroupedDifferentialGradients gradients = attention.Backward(inputs, dout, PackedParts.Sequences);
        List<double[]> gains = [];
        foreach (int n in PackedParts.WithQueries)
        {
            GroupedDifferentialInputs own = inputs with
            {
                Query = PackedParts.Rows(inputs.Query, n),
                Key = PackedParts.Keys(inputs.Key, n),
                Value = PackedParts.Keys(inputs.Value, n),
                LambdaLogit = PackedParts.Rows(inputs.LambdaLogit, n),
                Gate = PackedParts.Rows(inputs.Gate, n),
            };
            using GroupedDifferentialResult alone = attention.Forward(own);
            PackedParts.SameRows(n, (packed.Output, alone.Output), (packed.LogSumExp, alone.LogSumExp));
            using GroupedDifferentialGradients g = attention.Backward(own, PackedParts.Rows(dout, n));
            PackedParts.SameRows(n, (gradients.Query, g.Query), (gradients.LambdaLogit, g.LambdaLogit), (gradients.Gate, g.Gate));
            PackedParts.SameKeys(n, (gradients.Key, g.Key), (gradients.Value, g.Value));
            gains.Add(Values.Doubles(g.NormGain!));
        }

        PackedParts.IsSum(device, Values.Doubles(gradients.NormGain!), gains);
    }
}
