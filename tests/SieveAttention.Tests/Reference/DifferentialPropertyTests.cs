using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>Properties of differential attention that hold for every input; random cases.</summary>
internal sealed class DifferentialPropertyTests
{
    [Test]
    public void The_output_is_what_the_formulas_say()
    {
        Properties.ForAllSeeds(seed =>
        {
            DifferentialCase test = DifferentialCase.Random(seed);
            DifferentialInputs inputs = test.Inputs();
            (HostArray<double> o1, double[] lse1) = View(test, inputs.Query1, inputs.Key1, inputs.Value);
            (HostArray<double> o2, double[] lse2) = View(test, inputs.Query2, inputs.Key2, inputs.Value);
            HostArray<double> x = new(test.OutputShape);
            for (int e = 0; e < x.Data.Length; e++)
            {
                int head = e / (test.ValueDim * test.Queries) % test.QueryHeads;
                x.Data[e] = o1.Data[e] - (Lambda(test, inputs, head) * o2.Data[e]);
            }

            double[] y = SoftmaxDefinition.Epilogue(test.Options.Epilogue, inputs.NormGain, inputs.Gate, x);
            using DifferentialResult result = test.Operator().Forward(inputs);
            Assert.That(Values.Doubles(result.Output), Is.EqualTo(y).Within(1e-10), test.ToString());
            Assert.That(Values.Doubles(result.LogSumExp1), Is.EqualTo(lse1).Within(1e-10), test.ToString());
            Assert.That(Values.Doubles(result.LogSumExp2), Is.EqualTo(lse2).Within(1e-10), test.ToString());
        });
    }

    [Test]
    public void Identical_views_leave_one_minus_lambda_of_the_attention()
    {
        Properties.ForAllSeeds(seed =>
        {
            DifferentialCase test = Plain(DifferentialCase.Random(seed), 0.35);
            DifferentialInputs inputs = test.Inputs();
            inputs = inputs with { Query2 = inputs.Query1, Key2 = inputs.Key1 };
            double[] softmax = View(test, inputs.Query1, inputs.Key1, inputs.Value).Output.Data;
            double[] expected = Array.ConvertAll(softmax, value => (1 - 0.35) * value);
            Assert.That(test.Forward(inputs), Is.EqualTo(expected).Within(1e-12), test.ToString());
        });
    }

    [Test]
    public void Lambda_0_is_softmax_attention_of_the_first_view_whatever_the_second_holds()
    {
        Properties.ForAllSeeds(seed =>
        {
            DifferentialCase test = Plain(DifferentialCase.Random(seed), 0);
            DifferentialInputs inputs = test.Inputs();
            double[] softmax = View(test, inputs.Query1, inputs.Key1, inputs.Value).Output.Data;
            Assert.That(test.Forward(inputs), Is.EqualTo(softmax).Within(1e-12), test.ToString());
            double[] nan = new double[test.QueryShape.Count];
            Array.Fill(nan, double.NaN);
            DifferentialInputs poisoned = inputs with { Query2 = Values.Tensor(nan, test.QueryShape) };
            Assert.That(test.Forward(poisoned), Is.EqualTo(softmax).Within(1e-12), test.ToString());
        });
    }

    [Test]
    public void With_a_norm_the_scale_of_the_values_does_not_matter()
    {
        Properties.ForAllSeeds(seed =>
        {
            DifferentialCase test = DifferentialCase.Random(seed);
            OutputEpilogue norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 0, OutputScale = 0.53 };
            test = test with { Options = test.Options with { Epilogue = norm } };
            DifferentialInputs inputs = test.Inputs();
            double[] scaled = Array.ConvertAll(Values.Doubles(inputs.Value), value => 37 * value);
            double[] actual = test.Forward(inputs with { Value = Values.Tensor(scaled, test.ValueShape) });
            Assert.That(actual, Is.EqualTo(test.Forward(inputs)).Within(1e-9), test.ToString());
        });
    }

    [Test]
    public void Gradients_of_the_scores_of_a_row_sum_to_0()
    {
        // The same vector added to all keys moves all scores of a row alike, which softmax does not see: the gradients of the keys of a
        // head sum to 0 in each view.
        Properties.ForAllSeeds(seed =>
        {
            DifferentialCase test = DifferentialCase.Random(seed);
            using DifferentialGradients gradients = test.Operator().Backward(test.Inputs(), test.OutputGradient());
            foreach (AttentionTensor gradient in new[] { gradients.Key1, gradients.Key2 })
            {
                HostArray<double> dk = HostArray<double>.Read(gradient);
                double scale = 1 + dk.Data.Max(Math.Abs);
                for (int b = 0; b < test.Batch; b++)
                {
                    for (int h = 0; h < test.KeyHeads; h++)
                    {
                        for (int c = 0; c < test.HeadDim; c++)
                        {
                            double sum = Enumerable.Range(0, test.Keys).Sum(j => dk.Row(b, h, j)[c]);
                            Assert.That(sum, Is.Zero.Within(1e-11 * scale), test.ToString());
                        }
                    }
                }
            }
        });
    }

    [Test]
    public void Views_that_cancel_exactly_have_a_zero_output_and_finite_gradients()
    {
        DifferentialCase test = new("cancelled") { Gain = true, Gate = true };
        OutputEpilogue norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.53 };
        test = test with { Options = new DifferentialOptions { Lambda = [1], Epilogue = norm } };
        DifferentialInputs inputs = test.Inputs();
        inputs = inputs with { Query2 = inputs.Query1, Key2 = inputs.Key1 };
        Assert.That(test.Forward(inputs), Has.All.Zero);
        using DifferentialGradients gradients = test.Operator().Backward(inputs, test.OutputGradient());
        foreach (AttentionTensor gradient in new[] { gradients.Query1, gradients.Query2, gradients.Key1, gradients.Key2, gradients.Value })
        {
            Assert.That(Values.Doubles(gradient).All(double.IsFinite));
        }

        Assert.That(double.IsFinite(gradients.Lambda[0]) && gradients.Lambda[0] != 0);
        // r = eps^(-1/2) where x = 0: the first view's gradients are large, not lost.
        Assert.That(Values.Doubles(gradients.Query1).Max(Math.Abs), Is.GreaterThan(1));
    }

    [Test]
    public void Interleaved_heads_and_halves_of_heads_give_the_same_result()
    {
        DifferentialCase test = new("layouts") { QueryHeads = 4, KeyHeads = 2, Queries = 5, Keys = 5 };
        DifferentialInputs dense = test.Inputs();
        DifferentialInputs interleaved = dense with
        {
            Query1 = Interleaved(dense.Query1, dense.Query2, view: 0),
            Query2 = Interleaved(dense.Query1, dense.Query2, view: 1),
            Key1 = Interleaved(dense.Key1, dense.Key2, view: 0),
            Key2 = Interleaved(dense.Key1, dense.Key2, view: 1),
        };
        DifferentialInputs halves = dense with
        {
            Query1 = Halves(dense.Query1, dense.Query2).Slice(1, 0, 4),
            Query2 = Halves(dense.Query1, dense.Query2).Slice(1, 4, 4),
            Key1 = Halves(dense.Key1, dense.Key2).Slice(1, 0, 2),
            Key2 = Halves(dense.Key1, dense.Key2).Slice(1, 2, 2),
        };
        Assert.That(test.Forward(interleaved), Is.EqualTo(test.Forward(dense)));
        Assert.That(test.Forward(halves), Is.EqualTo(test.Forward(dense)));
    }

    [Test]
    public void Rows_without_a_visible_key_are_zero_and_have_no_gradient()
    {
        DifferentialCase test = new("nothing visible") { Gate = true };
        test = test with { Options = test.Options with { Mask = new AttentionMask { QueryOffset = -test.Queries } } };
        using DifferentialResult result = test.Operator().Forward(test.Inputs());
        Assert.That(Values.Doubles(result.Output), Has.All.Zero);
        Assert.That(Values.Doubles(result.LogSumExp1), Has.All.EqualTo(double.NegativeInfinity));
        Assert.That(Values.Doubles(result.LogSumExp2), Has.All.EqualTo(double.NegativeInfinity));
        using DifferentialGradients gradients = test.Operator().Backward(test.Inputs(), test.OutputGradient());
        Assert.That(Values.Doubles(gradients.Query1), Has.All.Zero);
        Assert.That(Values.Doubles(gradients.Key2), Has.All.Zero);
        Assert.That(Values.Doubles(gradients.Value), Has.All.Zero);
        Assert.That(Values.Doubles(gradients.Gate!), Has.All.Zero);
        Assert.That(gradients.Lambda, Has.All.Zero);
    }

    private static DifferentialCase Plain(DifferentialCase test, double lambda) => test with
    {
        Vectors = false,
        Gain = false,
        Gate = false,
        Options = test.Options with { Lambda = [lambda], LambdaInit = null, Epilogue = new OutputEpilogue() },
    };

    private static (HostArray<double> Output, double[] LogSumExp) View(
        DifferentialCase test, AttentionTensor query, AttentionTensor key, AttentionTensor value) => SoftmaxDefinition.Forward(
            test.Options.Mask,
            test.Options.Scores,
            HostArray<double>.Read(query),
            HostArray<double>.Read(key),
            HostArray<double>.Read(value));

    private static double Lambda(DifferentialCase test, DifferentialInputs inputs, int head)
    {
        if (inputs.LambdaVectors is null)
        {
            IReadOnlyList<double> lambda = test.Options.Lambda!;
            return lambda.Count == 1 ? lambda[0] : lambda[head];
        }

        HostArray<double> vectors = HostArray<double>.Read(inputs.LambdaVectors);
        double first = 0;
        double second = 0;
        for (int c = 0; c < test.HeadDim; c++)
        {
            first += vectors.Row(0, 0, 0)[c] * vectors.Row(0, 0, 1)[c];
            second += vectors.Row(0, 0, 2)[c] * vectors.Row(0, 0, 3)[c];
        }

        return Math.Exp(first) - Math.Exp(second) + test.Options.LambdaInit!.Value;
    }

    /// <summary>A view of [B, T, 2 H, D] memory where head h of a view is flat head 2 h + view.</summary>
    private static AttentionTensor Interleaved(AttentionTensor first, AttentionTensor second, int view)
    {
        (int batch, int heads, int rows, int channels) = first.Shape;
        double[] flat = new double[2 * first.Shape.Count];
        HostArray<double>[] views = [HostArray<double>.Read(first), HostArray<double>.Read(second)];
        for (int b = 0; b < batch; b++)
        {
            for (int i = 0; i < rows; i++)
            {
                for (int g = 0; g < 2 * heads; g++)
                {
                    views[g % 2].Row(b, g / 2, i).CopyTo(flat.AsSpan(((((b * rows) + i) * 2 * heads) + g) * channels));
                }
            }
        }

        TensorStrides strides = new(2L * heads * rows * channels, 2 * channels, 2 * heads * channels, 1);
        return AttentionTensor.From(flat.AsMemory(view * channels), first.Shape, strides);
    }

    /// <summary>Both views in one tensor, the second after the first.</summary>
    private static AttentionTensor Halves(AttentionTensor first, AttentionTensor second)
    {
        AttentionTensor both = AttentionTensor.Allocate(TensorType.Float64, first.Shape with { Heads = 2 * first.Shape.Heads });
        first.CopyTo(both.Slice(1, 0, first.Shape.Heads));
        second.CopyTo(both.Slice(1, first.Shape.Heads, first.Shape.Heads));
        return both;
    }
}
