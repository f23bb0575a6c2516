using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>What must hold for every problem, tried on random small ones.</summary>
internal sealed class ThresholdDifferentialPropertyTests
{
    [Test]
    public void Output_equals_the_definition_written_out_key_by_key()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            double[] expected = Definition(test, inputs);
            Assert.That(Deviation.Of(Forward(test, inputs), expected).Relative, Is.LessThanOrEqualTo(1e-12), Describe(test));
        });
    }

    [Test]
    public void Scaling_a_query_or_key_row_changes_nothing()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            double[] before = Forward(test, test.Inputs());
            ThresholdDifferentialInputs scaled = test.Inputs();
            Random random = new(seed);
            foreach (AttentionTensor tensor in new[] { scaled.Query1, scaled.Key1, scaled.Query2!, scaled.Key2! })
            {
                for (int r = 0; r < tensor.Shape.Rows; r++)
                {
                    // Powers of two scale without rounding, so that no score moves across its threshold.
                    double factor = Math.ScaleB(1, random.Next(-9, 10));
                    for (int h = 0; h < tensor.Shape.Heads; h++)
                    {
                        ScaleRow(tensor, h, r, factor);
                    }
                }
            }

            Assert.That(Deviation.Of(Forward(test, scaled), before).Relative, Is.LessThanOrEqualTo(1e-13), Describe(test));
        });
    }

    [Test]
    public void Gradients_of_queries_and_keys_are_orthogonal_to_them()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            using ThresholdDifferentialGradients gradients = Operator(test).Backward(inputs, test.OutputGradient());
            AssertOrthogonal(inputs.Query1, gradients.Query1, test);
            AssertOrthogonal(inputs.Key1, gradients.Key1, test);
            AssertOrthogonal(inputs.Query2!, gradients.Query2!, test);
            AssertOrthogonal(inputs.Key2!, gradients.Key2!, test);
        });
    }

    [Test]
    public void Lambda_zero_equals_the_operator_with_a_single_view()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            test = test with { Options = test.Options with { Lambda = 0 } };
            ThresholdDifferentialInputs inputs = test.Inputs();
            Assert.That(
                Forward(test, inputs), Is.EqualTo(Forward(test, inputs with { Query2 = null, Key2 = null })), Describe(test));
        });
    }

    [Test]
    public void Identical_views_with_lambda_one_give_exactly_zero()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            test = test with { Options = test.Options with { Lambda = 1 } };
            ThresholdDifferentialInputs inputs = test.Inputs();
            inputs = inputs with { Query2 = inputs.Query1, Key2 = inputs.Key1 };
            Assert.That(Forward(test, inputs), Has.All.Zero, Describe(test));
        });
    }

    [Test]
    public void A_huge_beta_gives_exact_zeros_and_no_nan_in_gradients()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            // kappa below 1 keeps the threshold of rows with a single key above 1 too.
            test = test with { Options = test.Options with { Beta = 1e6, Kappa = 0.5 } };
            ThresholdDifferentialInputs inputs = test.Inputs();
            using ThresholdDifferentialResult result = Operator(test).Forward(inputs);
            Assert.That(Values.Doubles(result.Output), Has.All.Zero, Describe(test));
            Assert.That(result.Survivors1.AsSpan<int>().ToArray(), Has.All.Zero, Describe(test));
            Assert.That(result.Survivors2!.AsSpan<int>().ToArray(), Has.All.Zero, Describe(test));
            AssertZeroGradients(Operator(test).Backward(inputs, test.OutputGradient()), test);
        });
    }

    [Test]
    public void The_first_row_of_a_causal_problem_is_its_only_key_weighted()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed) with { Gate = false, Gain = false };
            test = test with
            {
                Keys = test.Queries,
                Options = test.Options with { Kappa = 1, Mask = AttentionMask.CausalMask, Epilogue = new OutputEpilogue() },
            };
            ThresholdDifferentialInputs inputs = test.Inputs();
            HostArray<double> q1 = HostArray<double>.Read(inputs.Query1);
            HostArray<double> k1 = HostArray<double>.Read(inputs.Key1);
            HostArray<double> q2 = HostArray<double>.Read(inputs.Query2!);
            HostArray<double> k2 = HostArray<double>.Read(inputs.Key2!);
            HostArray<double> v = HostArray<double>.Read(inputs.Value);
            HostArray<double> y = new(test.OutputShape);
            Forward(test, inputs).CopyTo(y.Data, 0);
            for (int h = 0; h < test.QueryHeads; h++)
            {
                int kv = test.Problem.KeyHead(h);
                double a1 = Math.Pow(Math.Max(Scores.Cosine(q1.Row(0, h, 0), k1.Row(0, kv, 0)), 0), test.Options.Power);
                double a2 = Math.Pow(Math.Max(Scores.Cosine(q2.Row(0, h, 0), k2.Row(0, kv, 0)), 0), test.Options.Power);
                double w = a1 - (test.Options.Lambda * a2);
                for (int c = 0; c < test.ValueDim; c++)
                {
                    Assert.That(y.Row(0, h, 0)[c], Is.EqualTo(w * v.Row(0, kv, 0)[c]).Within(1e-12), Describe(test));
                }
            }
        });
    }

    [Test]
    public void Keys_that_no_row_sees_change_nothing_and_get_no_gradient()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            test = test with
            {
                Keys = test.Queries + 3,
                Options = test.Options with { Mask = new AttentionMask { QueryOffset = 0, Window = test.Options.Mask.Window } },
            };
            ThresholdDifferentialInputs inputs = test.Inputs();
            double[] before = Forward(test, inputs);
            using ThresholdDifferentialGradients gradients = Operator(test).Backward(inputs, test.OutputGradient());
            foreach (AttentionTensor gradient in new[] { gradients.Key1, gradients.Key2!, gradients.Value })
            {
                Assert.That(Values.Doubles(gradient.Slice(2, test.Queries, 3)), Has.All.Zero, Describe(test));
            }

            foreach (AttentionTensor tensor in new[] { inputs.Key1, inputs.Key2!, inputs.Value })
            {
                Fill(tensor.Slice(2, test.Queries, 3), double.NaN);
            }

            Assert.That(Forward(test, inputs), Is.EqualTo(before), Describe(test));
        });
    }

    [Test]
    public void NaN_in_a_query_stays_in_its_row()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            double[] before = Forward(test, inputs);
            int poisoned = seed % test.Queries;
            Fill(inputs.Query1.Slice(2, poisoned, 1), double.NaN);
            AssertNanOnlyWhere(test, before, Forward(test, inputs), row => row == poisoned && Sees(test, row, null), required: true);
        });
    }

    [Test]
    public void NaN_in_a_key_reaches_exactly_the_rows_that_see_it()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            double[] before = Forward(test, inputs);
            int poisoned = seed % test.Keys;
            Fill(inputs.Key1.Slice(2, poisoned, 1), double.NaN);
            AssertNanOnlyWhere(test, before, Forward(test, inputs), row => Sees(test, row, poisoned), required: true);
        });
    }

    [Test]
    public void NaN_in_a_value_reaches_only_rows_that_see_it()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            double[] before = Forward(test, inputs);
            int poisoned = seed % test.Keys;
            Fill(inputs.Value.Slice(2, poisoned, 1), double.NaN);
            AssertNanOnlyWhere(test, before, Forward(test, inputs), row => Sees(test, row, poisoned), required: false);
        });
    }

    [Test]
    public void Rows_without_visible_keys_are_zero_and_give_no_gradient()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            test = test with
            {
                Gain = true,
                Options = test.Options with
                {
                    Mask = new AttentionMask { QueryOffset = -test.Queries },
                    // The harshest setting: nothing keeps 1 / rms finite.
                    Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 0 },
                },
            };
            ThresholdDifferentialInputs inputs = test.Inputs();
            Assert.That(Forward(test, inputs), Has.All.Zero, Describe(test));
            AssertZeroGradients(Operator(test).Backward(inputs, test.OutputGradient()), test);
        });
    }

    [Test]
    public void Zero_query_and_key_rows_give_finite_results()
    {
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed);
            ThresholdDifferentialInputs inputs = test.Inputs();
            Fill(inputs.Query1.Slice(2, 0, 1), 0);
            Fill(inputs.Key1.Slice(2, test.Keys - 1, 1), 0);
            Fill(inputs.Key2!.Slice(2, 0, 1), 0);
            Assert.That(Forward(test, inputs).All(double.IsFinite), Describe(test));
            using ThresholdDifferentialGradients gradients = Operator(test).Backward(inputs, test.OutputGradient());
            Assert.That(Values.Doubles(gradients.Query1).All(double.IsFinite), Describe(test));
            Assert.That(Values.Doubles(gradients.Key1).All(double.IsFinite), Describe(test));
        });
    }

    [Test]
    public void Score_gradients_determine_the_gradient_of_lambda()
    {
        // Per row sum_j ds_2 (s_2 - tau) = -p lambda sum_j a_2 G, so scaling the loss' dependence on lambda checks dlambda without
        // differences: the output is linear in lambda as long as there is no norm.
        Properties.ForAllSeeds(seed =>
        {
            ThresholdCase test = ThresholdCase.Random(seed) with { Gain = false };
            test = test with { Options = test.Options with { Epilogue = new OutputEpilogue() } };
            ThresholdDifferentialInputs inputs = test.Inputs();
            AttentionTensor dout = test.OutputGradient();
            using ThresholdDifferentialGradients gradients = Operator(test).Backward(inputs, dout);
            double at0 = Dot(Forward(test with { Options = test.Options with { Lambda = 0 } }, inputs), Values.Doubles(dout));
            double at1 = Dot(Forward(test with { Options = test.Options with { Lambda = 1 } }, inputs), Values.Doubles(dout));
            Assert.That(gradients.Lambda, Is.EqualTo(at1 - at0).Within(1e-10 * Math.Max(1, Math.Abs(at0))), Describe(test));
        });
    }

    private static ThresholdDifferentialAttention Operator(ThresholdCase test) => new(AttentionDevice.Reference, test.Options);

    private static double[] Forward(ThresholdCase test, ThresholdDifferentialInputs inputs)
    {
        using ThresholdDifferentialResult result = Operator(test).Forward(inputs);
        return Values.Doubles(result.Output);
    }

    private static string Describe(ThresholdCase test) => FormattableString.Invariant(
        $"{test.Name}: {test.QueryShape} x {test.KeyShape}, {test.Options}");

    /// <summary>The formulas of the operator with a sum over all pairs and a mask test for each.</summary>
    private static double[] Definition(ThresholdCase test, ThresholdDifferentialInputs inputs)
    {
        HostArray<double> q1 = HostArray<double>.Read(inputs.Query1);
        HostArray<double> k1 = HostArray<double>.Read(inputs.Key1);
        HostArray<double> q2 = HostArray<double>.Read(inputs.Query2!);
        HostArray<double> k2 = HostArray<double>.Read(inputs.Key2!);
        HostArray<double> v = HostArray<double>.Read(inputs.Value);
        HostArray<double>? gates = inputs.Gate is null ? null : HostArray<double>.Read(inputs.Gate);
        ThresholdDifferentialOptions options = test.Options;
        HostArray<double> y = new(test.OutputShape);
        for (int b = 0; b < test.Batch; b++)
        {
            for (int h = 0; h < test.QueryHeads; h++)
            {
                int kv = h * test.KeyHeads / test.QueryHeads;
                for (int i = 0; i < test.Queries; i++)
                {
                    int[] visible =
                        [.. Enumerable.Range(0, test.Keys).Where(j => Scores.IsVisible(options.Mask, test.Queries, test.Keys, i, j))];
                    double tau = Scores.Threshold(options, visible.Length, test.HeadDim);
                    double[] x = new double[test.ValueDim];
                    foreach (int j in visible)
                    {
                        double s1 = Scores.Cosine(q1.Row(b, h, i), k1.Row(b, kv, j));
                        double s2 = Scores.Cosine(q2.Row(b, h, i), k2.Row(b, kv, j));
                        double a1 = s1 > tau ? Math.Pow(s1 - tau, options.Power) : 0;
                        double a2 = s2 > tau ? Math.Pow(s2 - tau, options.Power) : 0;
                        for (int c = 0; c < x.Length; c++)
                        {
                            x[c] += (a1 - (options.Lambda * a2)) * v.Row(b, kv, j)[c];
                        }
                    }

                    double r = options.Epilogue.Norm == OutputNorm.Rms
                        ? Math.Pow(x.Average(element => element * element) + options.Epilogue.NormEpsilon!.Value, -0.5)
                        : 1;
                    double gate = gates is null ? 1 : 1 / (1 + Math.Exp(-gates.Row(b, h, i)[0]));
                    for (int c = 0; c < x.Length; c++)
                    {
                        double gain = inputs.NormGain is null ? 1 : Values.Doubles(inputs.NormGain)[c];
                        y.Row(b, h, i)[c] = options.Epilogue.OutputScale * gain * x[c] * r * gate;
                    }
                }
            }
        }

        return y.Data;
    }

    /// <summary>Whether a query row sees a key, or any key at all.</summary>
    private static bool Sees(ThresholdCase test, int row, int? key) => key is { } j
        ? Scores.IsVisible(test.Options.Mask, test.Queries, test.Keys, row, j)
        : Enumerable.Range(0, test.Keys).Any(any => Scores.IsVisible(test.Options.Mask, test.Queries, test.Keys, row, any));

    private static void AssertNanOnlyWhere(ThresholdCase test, double[] before, double[] after, Func<int, bool> reached, bool required)
    {
        for (int e = 0; e < before.Length; e++)
        {
            int row = e / test.ValueDim % test.Queries;
            if (!reached(row))
            {
                Assert.That(after[e], Is.EqualTo(before[e]), $"row {row} must not change; {Describe(test)}");
            }
            else if (required)
            {
                Assert.That(after[e], Is.NaN, $"row {row} read NaN; {Describe(test)}");
            }
        }
    }

    private static void AssertZeroGradients(ThresholdDifferentialGradients gradients, ThresholdCase test)
    {
        foreach (AttentionTensor? tensor in new[]
            { gradients.Query1, gradients.Key1, gradients.Query2, gradients.Key2, gradients.Value, gradients.NormGain, gradients.Gate })
        {
            Assert.That(tensor is null ? [] : Values.Doubles(tensor), Has.All.Zero, Describe(test));
        }

        Assert.That(gradients.Beta, Is.Zero, Describe(test));
        Assert.That(gradients.Kappa, Is.Zero, Describe(test));
        Assert.That(gradients.Lambda, Is.Zero, Describe(test));
        gradients.Dispose();
    }

    private static void AssertOrthogonal(AttentionTensor x, AttentionTensor dx, ThresholdCase test)
    {
        HostArray<double> rows = HostArray<double>.Read(x);
        HostArray<double> gradients = HostArray<double>.Read(dx);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int r = 0; r < x.Shape.Rows; r++)
                {
                    double[] row = rows.Row(b, h, r).ToArray();
                    double[] gradient = gradients.Row(b, h, r).ToArray();
                    double scale = Math.Sqrt(Dot(row, row) * Dot(gradient, gradient));
                    // 1e-14 for gradients that are 0 but for rounding, as always with one channel.
                    Assert.That(Math.Abs(Dot(row, gradient)), Is.LessThanOrEqualTo((1e-9 * scale) + 1e-13), Describe(test));
                }
            }
        }
    }

    private static double Dot(double[] x, double[] y) => x.Zip(y, (a, b) => a * b).Sum();

    private static void Fill(AttentionTensor tensor, double value)
    {
        HostArray<double> array = new(tensor.Shape);
        Array.Fill(array.Data, value);
        array.WriteTo(tensor);
    }

    private static void ScaleRow(AttentionTensor tensor, int head, int row, double factor)
    {
        using AttentionTensor heads = tensor.Slice(1, head, 1);
        using AttentionTensor rows = heads.Slice(2, row, 1);
        HostArray<double> array = HostArray<double>.Read(rows);
        for (int e = 0; e < array.Data.Length; e++)
        {
            array.Data[e] *= factor;
        }

        array.WriteTo(rows);
    }
}
