using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// Every operator with every shared feature: it changes the output and the Cpu agrees with the reference on output and gradients, or it is
/// refused by name, value and what is allowed. Packed sequences have their own tests, in which every operator occurs too.
/// </summary>
internal sealed class FeatureTableTests
{
    private const int Heads = 4;
    private const int Queries = 12;
    private const int Keys = 20;

    private static readonly OutputEpilogue s_rms = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2 };

    /// <summary>What a call has beside the defaults: causal, the last rows of the keys, one key head for each query head.</summary>
    private sealed record Setup
    {
        public ScoreOptions Scores { get; init; } = new();

        public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

        public OutputEpilogue Epilogue { get; init; } = new();

        public int KeyHeads { get; init; } = Heads;

        public int ValueDim { get; init; } = 8;

        public bool Gain { get; init; }

        public bool Gate { get; init; }

        public AttentionTensor? RowFactors => Scores.RowFactor.Kind == RowFactorKind.PerRow ? Random(9, Heads, Queries, 1) : null;

        public AttentionTensor? NormGain => Gain ? Values.Tensor(Values.Normal(new Random(8), ValueDim), new TensorShape(1, 1, 1, ValueDim)) : null;

        public AttentionTensor View(int seed, bool query) => Random(seed, query ? Heads : KeyHeads, query ? Queries : Keys, 8);

        public AttentionTensor Value => Random(3, KeyHeads, Keys, ValueDim);

        public AttentionTensor? GateOf(int heads) => Gate ? Random(7, heads, Queries, 1) : null;

        public AttentionTensor Upstream(int heads) => Random(6, heads, Queries, ValueDim);

        public AttentionInputs Inputs => new()
        {
            Query = View(1, query: true),
            Key = View(2, query: false),
            Value = Value,
            RowFactors = RowFactors,
            NormGain = NormGain,
            Gate = GateOf(Heads),
        };

        public static AttentionTensor Random(int seed, int heads, int rows, int channels)
        {
            TensorShape shape = new(1, heads, rows, channels);
            return Values.Tensor(Values.Normal(new Random(seed), shape.Count), shape);
        }
    }

    /// <summary>Results of a forward and a backward pass, in one fixed order.</summary>
    private delegate AttentionTensor[] Run(AttentionDevice device, Setup setup);

    private static readonly (string Name, Setup With, Setup? Without)[] s_features =
    [
        ("not causal", new Setup { Mask = AttentionMask.Full }, null),
        ("query offset", new Setup { Mask = new AttentionMask { QueryOffset = 3 } }, null),
        ("window", new Setup { Mask = new AttentionMask { Window = 3 } }, null),
        ("grouped query heads", new Setup { KeyHeads = 2 }, null),
        ("one key head", new Setup { KeyHeads = 1 }, null),
        ("other value dim", new Setup { ValueDim = 5 }, null),
        ("constant row factor", new Setup { Scores = new ScoreOptions { RowFactor = RowFactor.Constant(0.7) } }, null),
        ("ssmax", new Setup { Scores = new ScoreOptions { RowFactor = RowFactor.Ssmax(0.4) } }, null),
        ("asentmax", new Setup { Scores = new ScoreOptions { RowFactor = RowFactor.Asentmax(0.3, 0.8) } }, null),
        ("row factor of each row", new Setup { Scores = new ScoreOptions { RowFactor = RowFactor.PerRow } }, null),
        ("alibi, half of the heads", new Setup { Scores = new ScoreOptions { AlibiSlopes = [0.5, 0.25, 0, 0] } }, null),
        ("rms norm", new Setup { Epilogue = s_rms }, null),
        ("gain", new Setup { Epilogue = s_rms, Gain = true }, new Setup { Epilogue = s_rms }),
        ("gate", new Setup { Gate = true }, null),
        ("output scale", new Setup { Epilogue = new OutputEpilogue { OutputScale = 0.5 } }, null),
    ];

    private static readonly (string Name, Run Run, Dictionary<string, string> Refused)[] s_operators =
    [
        ("softmax", Softmax, []),
        ("entmax", Entmax, []),
        ("softpick", Softpick, []),
        ("support basis", SupportBasis, new() { ["alibi"] = "AlibiSlopes has 4 values; allowed: none" }),
        ("tda", Threshold, new() { ["row factor"] = "", ["ssmax"] = "", ["asentmax"] = "", ["alibi"] = "" }),
        ("diff", Differential, RowFactorsRefused()),
        ("diff_v2", Grouped, RowFactorsRefused()),
        ("ssa", SparseSparse, new(RowFactorsRefused())
        {
            ["not causal"] = "Causal is False; allowed: true",
            ["window"] = "Window is 3; allowed: absent",
            ["alibi"] = "AlibiSlopes is [0.5, 0.25, 0, 0]; allowed: absent",
        }),
    ];

    private static IEnumerable<TestCaseData> Table()
    {
        foreach ((string name, Run run, Dictionary<string, string> refused) in s_operators)
        {
            foreach ((string feature, Setup with, Setup? without) in s_features)
            {
                string? refusal = refused.FirstOrDefault(entry => feature.Contains(entry.Key, StringComparison.Ordinal)).Value;
                // An empty refusal: the options of the operator have no place for it.
                if (refusal is not "")
                {
                    yield return new TestCaseData(run, with, without ?? new Setup(), refusal).SetName($"{name}: {feature}");
                }
            }
        }
    }

    [TestCaseSource(nameof(Table))]
    public void A_feature_works_or_is_refused(object run, object with, object without, string? refusal)
    {
        Run operation = (Run)run;
        if (refusal is not null)
        {
            foreach (AttentionDevice device in new[] { AttentionDevice.Reference, AttentionDevice.Cpu })
            {
                Assert.That(() => operation(device, (Setup)with), Throws.InstanceOf<ArgumentException>().With.Message.Contains(refusal));
            }

            return;
        }

        AttentionTensor[] exact = operation(AttentionDevice.Reference, (Setup)with);
        AttentionTensor[] fast = operation(AttentionDevice.Cpu, (Setup)with);
        double[] plain = Values.Doubles(operation(AttentionDevice.Reference, (Setup)without)[0]);
        Assert.That(Values.Doubles(exact[0]), Is.Not.EqualTo(plain), "the output depends on it");
        for (int n = 0; n < exact.Length; n++)
        {
            double[] expected = Values.Doubles(exact[n]);
            Assert.That(expected, Is.All.Not.NaN);
            Deviation deviation = Deviation.Of(Values.Doubles(fast[n]), expected);
            Assert.That(deviation.Relative, Is.LessThan(n == 0 ? 1e-5 : 1e-4), $"result {n}: {deviation}");
        }
    }

    private static Dictionary<string, string> RowFactorsRefused() => new()
    {
        ["constant row factor"] = "RowFactor is Constant; allowed: None",
        ["ssmax"] = "RowFactor is Ssmax; allowed: None",
        ["asentmax"] = "RowFactor is Asentmax; allowed: None",
        ["row factor of each row"] = "RowFactor is PerRow; allowed: None",
    };

    private static AttentionTensor[] Softmax(AttentionDevice device, Setup s)
    {
        SoftmaxAttention attention = new(device, new SoftmaxOptions { Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        return Results(attention.Forward(s.Inputs).Output, attention.Backward(s.Inputs, s.Upstream(Heads)));
    }

    private static AttentionTensor[] Entmax(AttentionDevice device, Setup s)
    {
        EntmaxAttention attention = new(device, new EntmaxOptions { Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        return Results(attention.Forward(s.Inputs).Output, attention.Backward(s.Inputs, s.Upstream(Heads)));
    }

    private static AttentionTensor[] Softpick(AttentionDevice device, Setup s)
    {
        RowFunctionAttention attention = new(
            device, new RowFunctionOptions { Weights = new SoftpickWeights(), Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        RowFunctionInputs inputs = new() { Attention = s.Inputs };
        return Results(attention.Forward(inputs).Output, attention.Backward(inputs, s.Upstream(Heads)));
    }

    private static AttentionTensor[] SupportBasis(AttentionDevice device, Setup s)
    {
        SupportBasisAttention attention = new(
            device, new SupportBasisOptions { Bound = 3, Tile = 4, Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        return Results(attention.Forward(s.Inputs).Output, attention.Backward(s.Inputs, s.Upstream(Heads)));
    }

    private static AttentionTensor[] Threshold(AttentionDevice device, Setup s)
    {
        ThresholdDifferentialAttention attention = new(
            device, new ThresholdDifferentialOptions { Beta = 0.3, Lambda = 0.4, Mask = s.Mask, Epilogue = s.Epilogue });
        ThresholdDifferentialInputs inputs = new()
        {
            Query1 = s.View(1, query: true),
            Key1 = s.View(2, query: false),
            Query2 = s.View(4, query: true),
            Key2 = s.View(5, query: false),
            Value = s.Value,
            NormGain = s.NormGain,
            Gate = s.GateOf(Heads),
        };
        ThresholdDifferentialGradients g = attention.Backward(inputs, s.Upstream(Heads));
        return Present(attention.Forward(inputs).Output, g.Query1, g.Key1, g.Query2, g.Key2, g.Value, g.NormGain, g.Gate);
    }

    private static AttentionTensor[] Differential(AttentionDevice device, Setup s)
    {
        DifferentialAttention attention = new(
            device, new DifferentialOptions { Lambda = [0.4], Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        DifferentialInputs inputs = new()
        {
            Query1 = s.View(1, query: true),
            Key1 = s.View(2, query: false),
            Query2 = s.View(4, query: true),
            Key2 = s.View(5, query: false),
            Value = s.Value,
            NormGain = s.NormGain,
            Gate = s.GateOf(Heads),
        };
        DifferentialGradients g = attention.Backward(inputs, s.Upstream(Heads));
        return Present(attention.Forward(inputs).Output, g.Query1, g.Key1, g.Query2, g.Key2, g.Value, g.NormGain, g.Gate);
    }

    private static AttentionTensor[] Grouped(AttentionDevice device, Setup s)
    {
        GroupedDifferentialAttention attention = new(
            device, new GroupedDifferentialOptions { Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        GroupedDifferentialInputs inputs = new()
        {
            Query = s.View(1, query: true),
            Key = s.View(2, query: false),
            Value = s.Value,
            LambdaLogit = Setup.Random(4, Heads / 2, Queries, 1),
            NormGain = s.NormGain,
            Gate = s.GateOf(Heads / 2),
        };
        GroupedDifferentialGradients g = attention.Backward(inputs, s.Upstream(Heads / 2));
        return Present(attention.Forward(inputs).Output, g.Query, g.Key, g.Value, g.LambdaLogit, g.NormGain, g.Gate);
    }

    private static AttentionTensor[] SparseSparse(AttentionDevice device, Setup s)
    {
        SparseSparseAttention attention = new(
            device,
            new SparseSparseOptions { BlockSize = 4, BlockCount = 2, Scores = s.Scores, Mask = s.Mask, Epilogue = s.Epilogue });
        SparseSparseInputs inputs = new()
        {
            Query = s.View(1, query: true),
            Key = s.View(2, query: false),
            Value = s.Value,
            NormGain = s.NormGain,
            Gate = s.GateOf(Heads),
        };
        SparseSparseGradients g = attention.Backward(inputs, s.Upstream(Heads));
        return Present(attention.Forward(inputs).SparseOutput, g.Query, g.Key, g.Value, g.NormGain, g.Gate);
    }

    private static AttentionTensor[] Results(AttentionTensor output, AttentionGradients g) =>
        Present(output, g.Query, g.Key, g.Value, g.NormGain, g.Gate, g.RowFactor?.Rows);

    private static AttentionTensor[] Present(params AttentionTensor?[] tensors) => [.. tensors.OfType<AttentionTensor>()];
}
