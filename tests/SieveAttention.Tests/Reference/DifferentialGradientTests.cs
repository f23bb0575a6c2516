using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>Every gradient of differential attention against central differences in float64.</summary>
internal sealed class DifferentialGradientTests
{
    private static readonly DifferentialCase s_small = new("one lambda") { Queries = 5, Keys = 6 };

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 1.3 };

    private static readonly DifferentialCase[] s_cases =
    [
        s_small,
        s_small with { Name = "one lambda a head", Options = s_small.Options with { Lambda = [0.6, -0.4] } },
        s_small with { Name = "lambda 0", Options = s_small.Options with { Lambda = [0] } },
        s_small with { Name = "lambda vectors", Vectors = true, Options = new DifferentialOptions { LambdaInit = 0.47 } },
        s_small with
        {
            Name = "lambda vectors, norm and gain",
            Vectors = true,
            Gain = true,
            Options = new DifferentialOptions { LambdaInit = 0.2, Epilogue = s_norm },
        },
        s_small with { Name = "grouped heads", Batch = 2, QueryHeads = 6, KeyHeads = 2 },
        s_small with { Name = "norm", Options = s_small.Options with { Epilogue = s_norm } },
        s_small with { Name = "gate", Gate = true, Options = s_small.Options with { Epilogue = new OutputEpilogue { OutputScale = 0.7 } } },
        s_small with
        {
            Name = "norm, gain and gate", Gain = true, Gate = true, ValueDim = 5, Options = s_small.Options with { Epilogue = s_norm },
        },
        s_small with
        {
            Name = "scale and slopes",
            Options = s_small.Options with { Scores = new ScoreOptions { Scale = 0.8, AlibiSlopes = [0.3, -0.1] } },
        },
        s_small with { Name = "not causal", Options = s_small.Options with { Mask = AttentionMask.Full } },
        s_small with { Name = "window", Keys = 9, Options = s_small.Options with { Mask = new AttentionMask { Window = 3 } } },
        s_small with { Name = "rows without keys", Options = s_small.Options with { Mask = new AttentionMask { QueryOffset = -2 } } },
        s_small with { Name = "offset", Options = s_small.Options with { Mask = new AttentionMask { QueryOffset = 3 } } },
        s_small with { Name = "one query", Queries = 1, Keys = 12 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Gradients_agree_with_finite_differences(DifferentialCase test)
    {
        Variables variables = new(test);
        using DifferentialGradients gradients = variables.Operator.Backward(variables.Inputs, test.OutputGradient());
        Assert.Multiple(() =>
        {
            AssertTensor("q1", variables, variables.Inputs.Query1, gradients.Query1);
            AssertTensor("k1", variables, variables.Inputs.Key1, gradients.Key1);
            AssertTensor("q2", variables, variables.Inputs.Query2, gradients.Query2);
            AssertTensor("k2", variables, variables.Inputs.Key2, gradients.Key2);
            AssertTensor("v", variables, variables.Inputs.Value, gradients.Value);
            AssertTensor("lambda vectors", variables, variables.Inputs.LambdaVectors, gradients.LambdaVectors);
            AssertTensor("norm gain", variables, variables.Inputs.NormGain, gradients.NormGain);
            AssertTensor("gate", variables, variables.Inputs.Gate, gradients.Gate);
            if (variables.Lambda is { } lambda)
            {
                CentralDifferences.AssertGradient("lambda", lambda, gradients.Lambda, variables.Loss);
            }
        });
    }

    [Test]
    public void The_gradient_of_a_lambda_from_vectors_is_given_too()
    {
        DifferentialCase test = s_small with { Vectors = true, Options = new DifferentialOptions { LambdaInit = 0.3 } };
        DifferentialInputs inputs = test.Inputs();
        double[] vectors = Values.Doubles(inputs.LambdaVectors!);
        double Dot(int row) => Enumerable.Range(0, 4).Sum(c => vectors[(4 * row) + c] * vectors[(4 * row) + 4 + c]);
        double lambda = Math.Exp(Dot(0)) - Math.Exp(Dot(2)) + 0.3;
        DifferentialCase finished = test with { Vectors = false, Options = new DifferentialOptions { Lambda = [lambda] } };
        using DifferentialGradients expected = finished.Operator().Backward(inputs with { LambdaVectors = null }, test.OutputGradient());
        using DifferentialGradients actual = test.Operator().Backward(inputs, test.OutputGradient());
        Assert.That(actual.Lambda, Has.Count.EqualTo(1));
        Assert.That(actual.Lambda[0], Is.EqualTo(expected.Lambda[0]).Within(1e-12));
        Assert.That(actual.Lambda[0], Is.Not.Zero);
        Assert.That(expected.LambdaVectors, Is.Null);
    }

    private static void AssertTensor(string name, Variables variables, AttentionTensor? input, AttentionTensor? gradient)
    {
        Assert.That(gradient is null, Is.EqualTo(input is null), name);
        if (input is not null)
        {
            CentralDifferences.AssertGradient(name, input.AsMemory<double>(), Values.Doubles(gradient!), variables.Loss);
        }
    }

    /// <summary>A problem whose variables can be moved: elements of the input tensors, and lambda.</summary>
    private sealed class Variables
    {
        private readonly double[] _dout;

        public Variables(DifferentialCase test)
        {
            Inputs = test.Inputs();
            Lambda = test.Options.Lambda?.ToArray();
            Operator = new DifferentialAttention(AttentionDevice.Reference, test.Options with { Lambda = Lambda });
            _dout = Values.Doubles(test.OutputGradient());
        }

        public DifferentialInputs Inputs { get; }

        public double[]? Lambda { get; }

        public DifferentialAttention Operator { get; }

        public double Loss()
        {
            using DifferentialResult result = Operator.Forward(Inputs);
            double loss = 0;
            foreach ((double y, double d) in result.Output.AsSpan<double>().ToArray().Zip(_dout))
            {
                loss += y * d;
            }

            return loss;
        }
    }
}
