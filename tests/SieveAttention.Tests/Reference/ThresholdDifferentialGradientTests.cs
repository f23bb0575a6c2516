using NUnit.Framework;
using SieveAttention.Reference;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>
/// Every gradient against central differences in float64. Scores close to their threshold are excluded beforehand: there the
/// function has a kink (power 1) or an unbounded third derivative (power 1.5).
/// </summary>
internal sealed class ThresholdDifferentialGradientTests
{
    private const double Step = 1e-5;
    private const double Tolerance = 2e-7;

    private static readonly ThresholdCase s_small = new("power 2")
    {
        Queries = 5,
        Keys = 6,
        HeadDim = 4,
        ValueDim = 3,
        Options = new ThresholdDifferentialOptions { Beta = 0.4, Lambda = 0.7, Kappa = 0.8 },
    };

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-2, OutputScale = 1.3 };

    private static readonly ThresholdCase[] s_cases =
    [
        s_small,
        s_small with { Name = "power 1", Options = s_small.Options with { Power = 1 } },
        s_small with { Name = "power 1.5", Options = s_small.Options with { Power = 1.5 } },
        s_small with { Name = "power 3", Options = s_small.Options with { Power = 3 } },
        s_small with { Name = "power 2.5", Options = s_small.Options with { Power = 2.5 } },
        s_small with { Name = "grouped heads", Batch = 2, QueryHeads = 6, KeyHeads = 2 },
        s_small with { Name = "norm", Options = s_small.Options with { Epilogue = s_norm } },
        s_small with { Name = "norm and gain", Gain = true, Options = s_small.Options with { Epilogue = s_norm } },
        s_small with { Name = "gate", Gate = true, Options = s_small.Options with { Epilogue = new OutputEpilogue { OutputScale = 0.7 } } },
        s_small with
        {
            Name = "norm, gain and gate", Gain = true, Gate = true, ValueDim = 5, Options = s_small.Options with { Epilogue = s_norm },
        },
        s_small with { Name = "not causal", Options = s_small.Options with { Mask = AttentionMask.Full } },
        s_small with { Name = "window", Keys = 9, Options = s_small.Options with { Mask = new AttentionMask { Window = 3 } } },
        s_small with
        {
            Name = "window, not causal",
            Keys = 9,
            Options = s_small.Options with { Mask = new AttentionMask { Causal = false, Window = 3 } },
        },
        s_small with { Name = "negative offset", Options = s_small.Options with { Mask = new AttentionMask { QueryOffset = -2 } } },
        s_small with { Name = "offset", Options = s_small.Options with { Mask = new AttentionMask { QueryOffset = 3 } } },
        s_small with { Name = "negative beta", Options = s_small.Options with { Beta = -0.3 } },
        s_small with { Name = "beta 0", Options = s_small.Options with { Beta = 0 } },
        s_small with { Name = "negative lambda", Options = s_small.Options with { Lambda = -0.6 } },
        s_small with { Name = "lambda 0", Options = s_small.Options with { Lambda = 0 } },
        s_small with { Name = "one view", SecondView = false, Options = s_small.Options with { Lambda = 0 } },
        s_small with { Name = "kappa above some rows", Options = s_small.Options with { Kappa = 3.5 } },
        s_small with { Name = "one query", Queries = 1, Keys = 12 },
        s_small with { Name = "more queries than keys", Queries = 8, Keys = 5 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Gradients_agree_with_finite_differences(ThresholdCase test)
    {
        Problem problem = Problem.WithoutScoresNearTheThreshold(test);
        ThresholdDifferentialBackward<double> gradients = problem.Backward();
        Assert.Multiple(() =>
        {
            AssertArray("q1", problem, problem.Q1.Data, gradients.Query1.Data);
            AssertArray("k1", problem, problem.K1.Data, gradients.Key1.Data);
            AssertArray("v", problem, problem.V.Data, gradients.Value.Data);
            if (problem.Q2 is not null)
            {
                AssertArray("q2", problem, problem.Q2.Data, gradients.Query2!.Data);
                AssertArray("k2", problem, problem.K2!.Data, gradients.Key2!.Data);
            }

            if (problem.Gain is not null)
            {
                AssertArray("norm_gain", problem, problem.Gain, gradients.NormGain!);
            }

            if (problem.Gate is not null)
            {
                AssertArray("gate", problem, problem.Gate.Data, gradients.Gate!.Data);
            }

            AssertArray("beta of each head", problem, problem.Parameters.Beta, gradients.Beta);
            AssertArray("lambda of each head", problem, problem.Parameters.Lambda, gradients.Lambda);
            AssertKappa(problem, gradients.Kappa);
        });
    }

    [Test]
    public void Gradients_do_not_vanish_in_the_cases()
    {
        Problem problem = Problem.WithoutScoresNearTheThreshold(s_small);
        ThresholdDifferentialBackward<double> gradients = problem.Backward();
        Assert.That(gradients.Query1.Data.Count(g => g != 0), Is.GreaterThan(gradients.Query1.Data.Length / 2));
        Assert.That(gradients.Kappa, Is.Not.Zero);
        Assert.That(gradients.Beta, Has.None.Zero);
        Assert.That(gradients.Lambda, Has.None.Zero);
    }

    [Test]
    public void Beta_and_lambda_may_differ_between_heads()
    {
        Problem problem = Problem.WithoutScoresNearTheThreshold(s_small, beta => beta[1] = 0.15, lambda => lambda[1] = -0.2);
        ThresholdDifferentialBackward<double> gradients = problem.Backward();
        AssertArray("beta of each head", problem, problem.Parameters.Beta, gradients.Beta);
        AssertArray("lambda of each head", problem, problem.Parameters.Lambda, gradients.Lambda);
        AssertArray("q1", problem, problem.Q1.Data, gradients.Query1.Data);
    }

    private static void AssertArray(string name, Problem problem, double[] variables, double[] gradient)
    {
        double[] differences = new double[variables.Length];
        for (int i = 0; i < variables.Length; i++)
        {
            double at = variables[i];
            variables[i] = at + Step;
            double after = problem.Loss();
            variables[i] = at - Step;
            double before = problem.Loss();
            variables[i] = at;
            differences[i] = (after - before) / (2 * Step);
        }

        // Relative to the largest gradient, but not below the size of the loss' own terms, which are of the order of 1.
        Deviation deviation = Deviation.Of(gradient, differences);
        Assert.That(deviation.Max, Is.LessThanOrEqualTo(Tolerance * Math.Max(1, deviation.Scale)), $"gradient of {name}: {deviation}");
    }

    private static void AssertKappa(Problem problem, double gradient)
    {
        double after = problem.Loss(problem.Parameters.Kappa + Step);
        double before = problem.Loss(problem.Parameters.Kappa - Step);
        double difference = (after - before) / (2 * Step);
        Assert.That(gradient, Is.EqualTo(difference).Within(Tolerance * Math.Max(1, Math.Abs(difference))), "gradient of kappa");
    }

    /// <summary>A problem whose variables can be moved.</summary>
    private sealed class Problem
    {
        private const double Margin = 2e-3;

        private readonly AttentionProblem _problem;
        private readonly HostArray<double> _dout;

        private Problem(ThresholdCase test)
        {
            ThresholdDifferentialInputs inputs = test.Inputs();
            _problem = test.Problem;
            Parameters = test.Options.ToParameters(test.QueryHeads);
            Q1 = HostArray<double>.Read(inputs.Query1);
            K1 = HostArray<double>.Read(inputs.Key1);
            Q2 = inputs.Query2 is null ? null : HostArray<double>.Read(inputs.Query2);
            K2 = inputs.Key2 is null ? null : HostArray<double>.Read(inputs.Key2);
            V = HostArray<double>.Read(inputs.Value);
            Gain = inputs.NormGain is null ? null : HostArray<double>.Read(inputs.NormGain).Data;
            Gate = inputs.Gate is null ? null : HostArray<double>.Read(inputs.Gate);
            _dout = HostArray<double>.Read(test.OutputGradient());
        }

        public ThresholdDifferentialParameters Parameters { get; private set; }

        public HostArray<double> Q1 { get; }

        public HostArray<double> K1 { get; }

        public HostArray<double>? Q2 { get; }

        public HostArray<double>? K2 { get; }

        public HostArray<double> V { get; }

        public double[]? Gain { get; }

        public HostArray<double>? Gate { get; }

        public static Problem WithoutScoresNearTheThreshold(
            ThresholdCase test, Action<double[]>? beta = null, Action<double[]>? lambda = null)
        {
            for (int seed = 1; seed < 2000; seed++)
            {
                Problem problem = new(test with { Seed = seed });
                beta?.Invoke(problem.Parameters.Beta);
                lambda?.Invoke(problem.Parameters.Lambda);
                if (problem.ClosestScore() > Margin)
                {
                    return problem;
                }
            }

            throw new InvalidOperationException("No seed keeps all scores away from the threshold.");
        }

        public double Loss(double? kappa = null)
        {
            ThresholdDifferentialParameters parameters = Parameters with { Kappa = kappa ?? Parameters.Kappa };
            HostArray<double> y = ThresholdDifferential.Forward(_problem, parameters, Q1, K1, Q2, K2, V, Gain, Gate).Output;
            return UnitVectors.Dot(y.Data, _dout.Data);
        }

        public ThresholdDifferentialBackward<double> Backward() =>
            ThresholdDifferential.Backward(_problem, Parameters, Q1, K1, Q2, K2, V, Gain, Gate, _dout);

        /// <summary>Smallest distance of a visible score from its threshold.</summary>
        private double ClosestScore()
        {
            double closest = double.PositiveInfinity;
            for (int b = 0; b < _problem.Batch; b++)
            {
                for (int h = 0; h < _problem.QueryHeads; h++)
                {
                    for (int i = 0; i < _problem.Queries; i++)
                    {
                        KeyRange visible = _problem.Visible(i);
                        double tau = Parameters.Beta[h]
                            * ThresholdDifferential.Steepness(visible.Count, Parameters.Kappa, _problem.HeadDim);
                        int kv = _problem.KeyHead(h);
                        for (int j = visible.First; j < visible.End; j++)
                        {
                            closest = Math.Min(closest, Math.Abs(Scores.Cosine(Q1.Row(b, h, i), K1.Row(b, kv, j)) - tau));
                            if (Q2 is not null)
                            {
                                closest = Math.Min(closest, Math.Abs(Scores.Cosine(Q2.Row(b, h, i), K2!.Row(b, kv, j)) - tau));
                            }
                        }
                    }
                }
            }

            return closest;
        }
    }
}
