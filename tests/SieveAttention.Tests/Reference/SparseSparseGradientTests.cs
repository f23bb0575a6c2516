using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>
/// Every gradient against central differences in float64. The selection is held: it has no gradient, and a step over the border of
/// another selection is no derivative. The alignment loss is differentiated with its stopped gradients: the outputs on the other side
/// of each term are those of the point itself.
/// </summary>
internal sealed class SparseSparseGradientTests
{
    private const double Step = 1e-5;
    private const double Tolerance = 2e-7;

    private static readonly SparseSparseCase s_sparse = new("sparse") { Queries = 9, Keys = 11, HeadDim = 4, ValueDim = 3, Gate = true };

    private static readonly SparseSparseCase s_both = (s_sparse with { Name = "both" })
        .With(o => o with { Stream = SparseSparseMode.Both });

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 1.3 };

    private static readonly SparseSparseCase[] s_cases =
    [
        s_sparse,
        s_sparse with { Name = "no gate", Gate = false },
        (s_sparse with { Name = "full" }).With(o => o with { Stream = SparseSparseMode.Full }),
        s_both,
        s_both with { Name = "grouped heads", Batch = 2, KeyHeads = 2, QueryHeads = 6 },
        (s_both with { Name = "aligned, gated" }).With(o => o with { AlignmentWeight = 30 }),
        (s_both with { Name = "aligned, ungated" }).With(o => o with { AlignmentWeight = 30, Alignment = AlignmentPlacement.Ungated }),
        (s_sparse with { Name = "sparse, aligned" }).With(o => o with { AlignmentWeight = 30 }),
        (s_sparse with { Name = "full, aligned" }).With(o => o with { AlignmentWeight = 30, Stream = SparseSparseMode.Full }),
        (s_both with { Name = "norm and gain", Gain = true }).With(o => o with { AlignmentWeight = 30, Epilogue = s_norm }),
        (s_both with { Name = "norm, ungated" })
            .With(o => o with { AlignmentWeight = 30, Epilogue = s_norm, Alignment = AlignmentPlacement.Ungated }),
        (s_both with { Name = "scale" }).With(o => o with { Scores = new ScoreOptions { Scale = -0.7 } }),
        (s_both with { Name = "released", Keys = 30, Queries = 8 })
            .With(o => o with { BlockSize = 2, BlockCount = 2, Selection = BlockSelectionRule.Released, AlignmentWeight = 5 }),
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Gradients_agree_with_finite_differences(SparseSparseCase test)
    {
        Variables variables = new(test);
        using SparseSparseGradients gradients = variables.Backward();
        Assert.Multiple(() =>
        {
            AssertGradient("query", variables, variables.Inputs.Query, gradients.Query);
            AssertGradient("key", variables, variables.Inputs.Key, gradients.Key);
            AssertGradient("value", variables, variables.Inputs.Value, gradients.Value);
            AssertGradient("gain", variables, variables.Inputs.NormGain, gradients.NormGain);
            AssertGradient("gate", variables, variables.Inputs.Gate, gradients.Gate);
        });
    }

    [Test]
    public void The_alignment_loss_is_twice_what_its_gradient_belongs_to()
    {
        SparseSparseCase test = s_both.With(o => o with { AlignmentWeight = 30 });
        SparseSparseInputs inputs = test.Inputs();
        SparseSparseAttention attention = test.On(AttentionDevice.Reference);
        using SparseSparseGradients gradients = attention.Backward(inputs, null, null);
        double Loss()
        {
            using SparseSparseResult result = attention.Forward(inputs);
            return 30 * result.AlignmentLoss!.AsSpan<double>()[0];
        }

        double gradient = Values.Doubles(gradients.Value)[4];
        double at = inputs.Value.AsSpan<double>()[4];
        inputs.Value.AsSpan<double>()[4] = at + Step;
        double after = Loss();
        inputs.Value.AsSpan<double>()[4] = at - Step;
        Assert.That((after - Loss()) / (2 * Step), Is.EqualTo(2 * gradient).Within(Tolerance));
        Assert.That(gradient, Is.Not.Zero);
    }

    private static void AssertGradient(string name, Variables variables, AttentionTensor? input, AttentionTensor? gradient)
    {
        Assert.That(gradient is null, Is.EqualTo(input is null), $"gradient of {name} is there exactly where the input is");
        if (input is null)
        {
            return;
        }

        Memory<double> values = input.AsMemory<double>();
        double[] differences = new double[values.Length];
        for (int n = 0; n < differences.Length; n++)
        {
            double at = values.Span[n];
            values.Span[n] = at + Step;
            double after = variables.Loss();
            values.Span[n] = at - Step;
            double before = variables.Loss();
            values.Span[n] = at;
            differences[n] = (after - before) / (2 * Step);
        }

        Deviation deviation = Deviation.Of(Values.Doubles(gradient!), differences);
        Assert.That(deviation.Max, Is.LessThanOrEqualTo(Tolerance * Math.Max(1, deviation.Scale)), $"gradient of {name}: {deviation}");
        Assert.That(deviation.Scale, Is.GreaterThan(1e-3), $"gradient of {name} vanishes");
    }

    /// <summary>A problem whose inputs can be moved in place, with the objective whose gradient Backward computes.</summary>
    private sealed class Variables
    {
        private readonly SparseSparseOptions _options;
        private readonly SparseSparseAttention _attention;
        private readonly AttentionTensor _dSparse;
        private readonly AttentionTensor _dFull;
        private readonly (double[] Sparse, double[] Full) _still;

        public Variables(SparseSparseCase test)
        {
            _options = test.Options;
            _dSparse = test.OutputGradient(1);
            _dFull = test.OutputGradient(2);
            Inputs = test.Inputs();
            SparseSparseCase both = test.With(o => o with { Stream = SparseSparseMode.Both });
            using SparseSparseResult result = both.On(AttentionDevice.Reference).Forward(Inputs);
            Inputs = Inputs with { BlockIndices = result.BlockIndices!.ToHost() };
            _attention = both.On(AttentionDevice.Reference);
            _still = Aligned();
        }

        public SparseSparseInputs Inputs { get; }

        public SparseSparseGradients Backward()
        {
            SparseSparseAttention attention = new(AttentionDevice.Reference, _options);
            return _options.Stream switch
            {
                SparseSparseMode.Sparse => attention.Backward(Inputs, _dSparse),
                SparseSparseMode.Full => attention.Backward(Inputs, _dFull),
                _ => attention.Backward(Inputs, _dSparse, _dFull),
            };
        }

        public double Loss()
        {
            using SparseSparseResult result = _attention.Forward(Inputs);
            double loss = 0;
            if (_options.Stream != SparseSparseMode.Full)
            {
                loss += Dot(Values.Doubles(result.SparseOutput!), Values.Doubles(_dSparse));
            }

            if (_options.Stream != SparseSparseMode.Sparse)
            {
                loss += Dot(Values.Doubles(result.FullOutput!), Values.Doubles(_dFull));
            }

            if (_options.AlignmentWeight != 0)
            {
                (double[] sparse, double[] full) = Aligned();
                loss += _options.AlignmentWeight * (SmoothL1(full, _still.Sparse) + SmoothL1(_still.Full, sparse));
            }

            return loss;
        }

        private (double[] Sparse, double[] Full) Aligned()
        {
            bool gated = _options.Alignment == AlignmentPlacement.Gated;
            SparseSparseInputs inputs = gated ? Inputs : Inputs with { Gate = null, NormGain = null };
            SparseSparseAttention attention = gated
                ? _attention
                : new SparseSparseAttention(AttentionDevice.Reference, _attention.Options with { Epilogue = new OutputEpilogue() });
            using SparseSparseResult result = attention.Forward(inputs);
            return (Values.Doubles(result.SparseOutput!), Values.Doubles(result.FullOutput!));
        }

        private static double SmoothL1(double[] x, double[] y) =>
            x.Zip(y, (a, b) => Math.Abs(a - b)).Average(d => d < 1 ? d * d / 2 : d - 0.5);

        private static double Dot(double[] x, double[] y) => x.Zip(y, (a, b) => a * b).Sum();
    }
}
