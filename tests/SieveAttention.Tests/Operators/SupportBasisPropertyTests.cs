using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>What support-basis attention promises beside its golden cases, on the reference.</summary>
internal sealed class SupportBasisPropertyTests
{
    private static readonly OneViewCase s_case = new("support basis")
    {
        Batch = 2, QueryHeads = 4, Queries = 13, Keys = 17, HeadDim = 6, Gate = true,
    };

    [Test]
    public void Bound_0_is_softmax_attention([Values(1, 2)] int degree, [Values(1, 4, 5, 100)] int tile)
    {
        AttentionInputs inputs = s_case.Inputs(s_case.Variables());
        using SupportBasisResult result = Operator(0, degree, tile).Forward(inputs);
        using SoftmaxResult softmax = new SoftmaxAttention(AttentionDevice.Reference).Forward(inputs);
        Assert.That(Deviation.Of(Values.Doubles(result.Output), Values.Doubles(softmax.Output)).Max, Is.LessThanOrEqualTo(1e-13));
        Assert.That(result.ExactFraction, Is.EqualTo(1));
    }

    [Test]
    public void A_large_bound_is_the_polynomial_operator()
    {
        // Weights by features: 1 + s + s^2 / 2 is the product of [1, x, x (x) x / sqrt 2] of query and key.
        OneViewCase test = s_case with { Gate = false, Batch = 1, QueryHeads = 2 };
        Dictionary<string, double[]> variables = test.Variables();
        using SupportBasisResult result = Operator(1000, 2, 4).Forward(test.Inputs(variables));
        double[] expected = ByFeatures(test, variables);
        Assert.That(Deviation.Of(Values.Doubles(result.Output), expected).Max, Is.LessThanOrEqualTo(1e-13));
        Assert.That(result.ExactFraction, Is.Zero);
    }

    [Test]
    public void Tiles_are_chosen_by_their_bound() => Properties.ForAllSeeds(seed =>
    {
        Random random = new(seed);
        OneViewCase test = (s_case with { Seed = seed, Gate = false, Queries = random.Next(1, 15), Keys = random.Next(1, 15) })
            with { Mask = new AttentionMask { Causal = random.Next(2) == 0, Window = random.Next(2) == 0 ? null : random.Next(1, 8) } };
        int tile = random.Next(1, 7);
        int degree = 2;
        double bound = random.NextDouble() * 8;
        Dictionary<string, double[]> variables = test.Variables();
        using SupportBasisResult result = Operator(bound, degree, tile, test.Mask).Forward(test.Inputs(variables));
        (double[] expected, double fraction) = Dense(test, variables, bound, tile);
        Assert.That(Deviation.Of(Values.Doubles(result.Output), expected).Max, Is.LessThanOrEqualTo(1e-12));
        Assert.That(result.ExactFraction, Is.EqualTo(fraction).Within(1e-15));
    });

    [Test]
    public void A_tile_exactly_at_its_bound_is_polynomial()
    {
        using SupportBasisResult at = Single(query: 2, key: 0.5, bound: 1);
        using SupportBasisResult below = Single(query: 2, key: 0.5, bound: Math.BitDecrement(1.0));
        Assert.That((at.ExactFraction, below.ExactFraction), Is.EqualTo((0.0, 1.0)));
    }

    [Test]
    public void Row_factors_take_part_in_the_bound()
    {
        AttentionInputs inputs = SingleInputs(2, 0.5);
        double Fraction(double g) => Operator(1.5, 2, 1, scores: new ScoreOptions { RowFactor = RowFactor.Constant(g) })
            .Forward(inputs).ExactFraction;
        Assert.That((Fraction(1.4), Fraction(1.6), Fraction(-1.6)), Is.EqualTo((0.0, 1.0, 1.0)));
    }

    [Test]
    public void A_row_whose_weights_do_not_sum_to_a_positive_number_is_an_error()
    {
        ArgumentException? error = Assert.Throws<ArgumentException>(() => Single(query: 4, key: -0.5, bound: 100, degree: 1));
        Assert.That(error!.Message, Does.Contain("batch 0, head 0, query row 0 sum to -1").And.Contain("Degree 2"));
        Assert.That(() => Single(query: 2, key: -0.5, bound: 100, degree: 1), Throws.ArgumentException, "a sum of 0");
        Assert.That(() => Single(query: 4, key: -0.5, bound: 100, degree: 2), Throws.Nothing);
        SupportBasisAttention cpu = new(AttentionDevice.Cpu, new SupportBasisOptions { Bound = 100, Degree = 1 });
        Assert.That(() => cpu.Forward(SingleInputs(4, -0.5)), Throws.ArgumentException.With.Message.Contains("query row 0 sum to -1"));
    }

    [Test]
    public void Exact_scores_of_a_thousand_stand_beside_polynomial_tiles()
    {
        // Key 0 scores 1000 and is exact; key 1 scores 0.001 and is not: its weight is 0 beside e^1000.
        AttentionTensor q = Values.Tensor([1], new TensorShape(1, 1, 1, 1));
        AttentionTensor k = Values.Tensor([1000, 0.001], new TensorShape(1, 1, 2, 1));
        AttentionTensor v = Values.Tensor([3, 5], new TensorShape(1, 1, 2, 1));
        using SupportBasisResult result = Operator(1, 2, 1).Forward(new AttentionInputs { Query = q, Key = k, Value = v });
        Assert.That(Values.Doubles(result.Output), Is.EqualTo([3.0]));
        Assert.That(result.ExactFraction, Is.EqualTo(0.5));
    }

    [Test]
    public void Very_negative_exact_scores_do_not_vanish()
    {
        AttentionTensor q = Values.Tensor([1], new TensorShape(1, 1, 1, 1));
        AttentionTensor k = Values.Tensor([-2000, -2000], new TensorShape(1, 1, 2, 1));
        AttentionTensor v = Values.Tensor([3, 5], new TensorShape(1, 1, 2, 1));
        using SupportBasisResult result = Operator(1, 2, 1).Forward(new AttentionInputs { Query = q, Key = k, Value = v });
        Assert.That(Values.Doubles(result.Output), Is.EqualTo([4.0]));
    }

    [Test]
    public void Without_a_visible_pair_the_fraction_is_0()
    {
        AttentionInputs inputs = s_case.Inputs(s_case.Variables());
        using SupportBasisResult result = Operator(0, 2, 4, new AttentionMask { QueryOffset = -100 }).Forward(inputs);
        Assert.That(result.ExactFraction, Is.Zero);
        Assert.That(Values.Doubles(result.Output), Has.All.Zero);
    }

    private static SupportBasisAttention Operator(
        double bound, int degree, int tile, AttentionMask? mask = null, ScoreOptions? scores = null) => new(
        AttentionDevice.Reference,
        new SupportBasisOptions
        {
            Bound = bound, Degree = degree, Tile = tile, Mask = mask ?? new AttentionMask(), Scores = scores ?? new ScoreOptions(),
        });

    private static AttentionInputs SingleInputs(double query, double key) => new()
    {
        Query = Values.Tensor([query], new TensorShape(1, 1, 1, 1)),
        Key = Values.Tensor([key], new TensorShape(1, 1, 1, 1)),
        Value = Values.Tensor([1], new TensorShape(1, 1, 1, 1)),
    };

    private static SupportBasisResult Single(double query, double key, double bound, int degree = 2) =>
        Operator(bound, degree, 1).Forward(SingleInputs(query, key));

    private static double Product(OneViewCase test, Dictionary<string, double[]> variables, int b, int h, int i, int j)
    {
        double sum = 0;
        for (int c = 0; c < test.HeadDim; c++)
        {
            sum += Query(test, variables, b, h, i)[c] * Key(test, variables, b, test.Problem.KeyHead(h), j)[c];
        }

        return sum / Math.Sqrt(test.HeadDim);
    }

    private static double[] Query(OneViewCase test, Dictionary<string, double[]> variables, int b, int h, int i) =>
        variables["q"].AsSpan((((b * test.QueryHeads) + h) * test.Queries + i) * test.HeadDim, test.HeadDim).ToArray();

    private static double[] Key(OneViewCase test, Dictionary<string, double[]> variables, int b, int h, int j) =>
        variables["k"].AsSpan((((b * test.KeyHeads) + h) * test.Keys + j) * test.HeadDim, test.HeadDim).ToArray();

    private static double Norm(double[] x) => Math.Sqrt(x.Sum(value => value * value));

    /// <summary>The definition, pair by pair: the bound from the rows of the tile, the weight without any factor taken out.</summary>
    private static (double[] Output, double ExactFraction) Dense(
        OneViewCase test, Dictionary<string, double[]> variables, double bound, int tile)
    {
        double[] output = new double[test.OutputShape.Count];
        HashSet<(int, int, int, int)> tiles = [];
        HashSet<(int, int, int, int)> exactTiles = [];
        for (int b = 0; b < test.Batch; b++)
        {
            for (int h = 0; h < test.QueryHeads; h++)
            {
                int kv = test.Problem.KeyHead(h);
                for (int i = 0; i < test.Queries; i++)
                {
                    double sum = 0;
                    double[] x = new double[test.ValueDim];
                    for (int j = 0; j < test.Keys; j++)
                    {
                        if (!Scores.IsVisible(test.Mask, test.Queries, test.Keys, i, j))
                        {
                            continue;
                        }

                        double u = Rows(i, tile, test.Queries).Max(row => Norm(Query(test, variables, b, h, row)))
                            * Rows(j, tile, test.Keys).Max(row => Norm(Key(test, variables, b, kv, row))) / Math.Sqrt(test.HeadDim);
                        double s = Product(test, variables, b, h, i, j);
                        double w = u > bound ? Math.Exp(s) : 1 + s + (s * s / 2);
                        tiles.Add((b, h, i / tile, j / tile));
                        if (u > bound)
                        {
                            exactTiles.Add((b, h, i / tile, j / tile));
                        }

                        sum += w;
                        for (int c = 0; c < test.ValueDim; c++)
                        {
                            x[c] += w * variables["v"][(((((b * test.KeyHeads) + kv) * test.Keys) + j) * test.ValueDim) + c];
                        }
                    }

                    for (int c = 0; c < test.ValueDim && sum > 0; c++)
                    {
                        output[(((((b * test.QueryHeads) + h) * test.Queries) + i) * test.ValueDim) + c] = x[c] / sum;
                    }
                }
            }
        }

        return (output, tiles.Count == 0 ? 0 : (double)exactTiles.Count / tiles.Count);
    }

    private static IEnumerable<int> Rows(int row, int tile, int count) =>
        Enumerable.Range(row / tile * tile, Math.Min(tile, count - (row / tile * tile)));

    /// <summary>The polynomial operator as a running state of features, without any score.</summary>
    private static double[] ByFeatures(OneViewCase test, Dictionary<string, double[]> variables)
    {
        double[] output = new double[test.OutputShape.Count];
        double root = Math.Pow(test.HeadDim, -0.25);
        double[] Features(double[] x)
        {
            double[] y = [.. x.Select(value => value * root)];
            return [1, .. y, .. y.SelectMany(a => y.Select(b => a * b / Math.Sqrt(2)))];
        }

        for (int h = 0; h < test.QueryHeads; h++)
        {
            int kv = test.Problem.KeyHead(h);
            for (int i = 0; i < test.Queries; i++)
            {
                double[] query = Features(Query(test, variables, 0, h, i));
                double[] x = new double[test.ValueDim];
                double sum = 0;
                for (int j = 0; j <= i + test.Keys - test.Queries; j++)
                {
                    double w = query.Zip(Features(Key(test, variables, 0, kv, j)), (a, b) => a * b).Sum();
                    sum += w;
                    for (int c = 0; c < test.ValueDim; c++)
                    {
                        x[c] += w * variables["v"][(((kv * test.Keys) + j) * test.ValueDim) + c];
                    }
                }

                for (int c = 0; c < test.ValueDim; c++)
                {
                    output[(((h * test.Queries) + i) * test.ValueDim) + c] = x[c] / sum;
                }
            }
        }

        return output;
    }
}
