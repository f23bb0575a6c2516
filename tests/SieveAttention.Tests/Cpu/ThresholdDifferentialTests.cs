using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

/// <summary>The float32 path against the float64 reference; tolerances are argued at <see cref="CpuThreshold"/>.</summary>
internal sealed class ThresholdDifferentialTests
{
    private static readonly ThresholdTuning s_dense = new(DenseSurvivors: 0, MaxCandidateRows: 0);
    private static readonly ThresholdTuning s_sparse = new(DenseSurvivors: 2, MaxCandidateRows: 0);

    private static readonly ThresholdTuning s_screened = new(DenseSurvivors: 2, MaxCandidateRows: 64);

    private static IEnumerable<ThresholdCase> Cases()
    {
        foreach (int length in new[] { 1, 2, 17, 63, 64, 65, 129, 200 })
        {
            yield return new ThresholdCase($"length {length}") { Queries = length, Keys = length, HeadDim = 16, ValueDim = 16 };
        }

        foreach (int channels in new[] { 1, 5, 16, 48, 64, 80 })
        {
            yield return new ThresholdCase($"head_dim {channels}")
            {
                Queries = 70, Keys = 70, HeadDim = channels, ValueDim = channels, Seed = 3,
            };
        }

        yield return new ThresholdCase("value_dim 5, head_dim 48") { Queries = 66, Keys = 66, HeadDim = 48, ValueDim = 5 };
        yield return new ThresholdCase("value_dim 80, head_dim 16") { Queries = 66, Keys = 66, HeadDim = 16, ValueDim = 80 };
        yield return new ThresholdCase("grouped heads, batch")
        {
            Batch = 2, QueryHeads = 8, KeyHeads = 2, Queries = 67, Keys = 67, HeadDim = 16, ValueDim = 24,
        };
        yield return new ThresholdCase("one key head for all")
        {
            QueryHeads = 5, KeyHeads = 1, Queries = 40, Keys = 130, HeadDim = 16, ValueDim = 16,
        };
        yield return Masked("window smaller than a tile", 150, 150, new AttentionMask { Window = 7 });
        yield return Masked("window over tiles", 200, 200, new AttentionMask { Window = 100 });
        yield return Masked("window without causality", 150, 140, new AttentionMask { Causal = false, Window = 20 });
        yield return Masked("full", 65, 129, AttentionMask.Full);
        yield return Masked("negative offset", 100, 90, new AttentionMask { QueryOffset = -30 });
        yield return Masked("more queries than keys", 140, 33, AttentionMask.CausalMask);
        yield return Masked("one query", 1, 200, AttentionMask.CausalMask);
        yield return Masked("no row sees a key", 20, 20, new AttentionMask { QueryOffset = -40 });
        yield return Masked("window beyond the keys", 20, 20, new AttentionMask { Causal = false, QueryOffset = 100, Window = 5 });
        foreach (double power in new[] { 1, 1.5, 2, 3, 4.25 })
        {
            yield return With($"power {power}", options => options with { Power = power });
        }

        yield return With("negative beta", options => options with { Beta = -0.3 });
        yield return With("beta 0", options => options with { Beta = 0 });
        yield return With("huge beta", options => options with { Beta = 1e6 });
        yield return With("kappa 20", options => options with { Kappa = 20 });
        yield return With("lambda 0", options => options with { Lambda = 0 });
        yield return With("negative lambda", options => options with { Lambda = -0.7 });
        yield return With("one view", options => options with { Lambda = 0 }) with { SecondView = false };
        OutputEpilogue norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-4, OutputScale = 0.7 };
        yield return With("norm", options => options with { Epilogue = norm });
        yield return With("norm, gain, gate", options => options with { Epilogue = norm }) with { Gain = true, Gate = true };
        OutputEpilogue scale = new() { OutputScale = -2 };
        yield return With("gate, scale", options => options with { Epilogue = scale }) with { Gate = true };
    }

    [TestCaseSource(nameof(Cases))]
    public void Forward_matches_the_reference(ThresholdCase test)
    {
        CpuThreshold problem = new(test);
        problem.AssertForward();
        problem.AssertForward(tuning: s_dense);
        problem.AssertForward(tuning: s_sparse);
    }

    [TestCaseSource(nameof(Cases))]
    public void Backward_matches_the_reference(ThresholdCase test)
    {
        CpuThreshold problem = new(test);
        problem.AssertBackward();
        problem.AssertBackward(tuning: s_dense);
        problem.AssertBackward(tuning: s_sparse);
        problem.AssertBackward(tuning: s_screened);
    }

    [Test]
    public void Random_small_problems_match_the_reference() => Properties.ForAllSeeds(
        seed =>
        {
            CpuThreshold problem = new(ThresholdCase.Random(seed));
            problem.AssertForward();
            problem.AssertBackward();
        },
        count: 200);

    [Test]
    public void Random_tiled_problems_match_the_reference() => Properties.ForAllSeeds(
        seed =>
        {
            Random random = new(seed);
            ThresholdCase test = ThresholdCase.Random(seed);
            CpuThreshold problem = new(test with
            {
                Queries = random.Next(1, 150),
                Keys = random.Next(1, 150),
                HeadDim = random.Next(4, 40),
                ValueDim = random.Next(1, 40),
                Options = test.Options with
                {
                    Mask = test.Options.Mask with
                    {
                        QueryOffset = random.Next(2) == 0 ? null : random.Next(-60, 120),
                        Window = random.Next(2) == 0 ? null : random.Next(1, 120),
                    },
                },
            });
            problem.AssertForward();
            problem.AssertBackward();
        },
        count: 25);

    [TestCaseSource(nameof(Cases))]
    public void Every_vector_width_matches_the_reference(ThresholdCase test)
    {
        CpuThreshold problem = new(test);
        foreach (int width in new[] { 8, 4 })
        {
            problem.AssertForward(new CpuExecution { VectorWidth = width });
            problem.AssertBackward(new CpuExecution { VectorWidth = width });
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void Forward_has_the_same_bits_for_any_threads_widths_and_tuning(ThresholdCase test)
    {
        CpuThreshold problem = new(test);
        ThresholdDifferentialForward<float> one = problem.Forward(new CpuExecution { Threads = 1 });
        AssertSame(problem.Forward(new CpuExecution { Threads = 5 }), one);
        AssertSame(problem.Forward(new CpuExecution { Threads = 2, VectorWidth = 8 }), one);
        AssertSame(problem.Forward(new CpuExecution { Threads = 2, VectorWidth = 4 }), one);
        AssertSame(problem.Forward(tuning: s_dense), one);
        AssertSame(problem.Forward(tuning: s_sparse), one);
        foreach (int width in new[] { 16, 8, 4 })
        {
            AssertSame(problem.Forward(new CpuExecution { VectorWidth = width }, s_screened), one);
        }
    }

    /// <summary>
    /// Rows that bring byte products to the ends of their range: equal, opposite, one channel, few channels, all channels alike, large
    /// beside small ones. A survivor lost by a bound that is too tight, or by a 16-bit sum that overflows, would change the bits.
    /// </summary>
    [Test]
    public void Screening_changes_no_bit_for_rows_at_the_ends_of_the_byte_range(
        [Values(1, 2, 3, 4, 5, 16, 48, 64, 80, 200)] int channels, [Values(0.0, 0.5, 1.0, 1.5)] double beta)
    {
        ThresholdCase test = new("structured")
        {
            QueryHeads = 1, KeyHeads = 1, Queries = 130, Keys = 130, HeadDim = channels, ValueDim = 8,
            Options = new() { Beta = beta, Lambda = 0.5, Mask = AttentionMask.Full },
        };
        CpuThreshold problem = new(test);
        foreach (HostArray<float> rows in new[] { problem.Query1, problem.Query2!, problem.Key1, problem.Key2! })
        {
            Random random = new(channels);
            for (int row = 0; row < 130; row++)
            {
                Structure(rows.Row(0, 0, row), row % 8, random);
            }
        }

        ThresholdDifferentialForward<float> all = problem.Forward(tuning: s_sparse);
        foreach (int width in new[] { 16, 8, 4 })
        {
            AssertSame(problem.Forward(new CpuExecution { VectorWidth = width }, s_screened), all);
        }
    }

    [Test]
    public void Backward_repeats_its_bits_and_its_query_gradients_do_not_depend_on_threads([Values(1, 2, 5)] int threads)
    {
        ThresholdCase test = new("grouped")
        {
            Batch = 2, QueryHeads = 4, KeyHeads = 2, Queries = 200, Keys = 190, HeadDim = 24, ValueDim = 24, Gain = true,
            Options = new ThresholdDifferentialOptions
            {
                Beta = 0.4, Lambda = 0.5, Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-4 },
            },
        };
        CpuThreshold problem = new(test);
        ThresholdDifferentialBackward<float> single = problem.Backward(new CpuExecution { Threads = 1 });
        ThresholdDifferentialBackward<float> first = problem.Backward(new CpuExecution { Threads = threads });
        Assert.That(first.Query1.Data, Is.EqualTo(single.Query1.Data));
        Assert.That(first.Query2!.Data, Is.EqualTo(single.Query2!.Data));
        Assert.That(first.NormGain, Is.EqualTo(single.NormGain));
        Assert.That(first.Beta, Is.EqualTo(single.Beta));
        Assert.That(first.Lambda, Is.EqualTo(single.Lambda));
        Assert.That(first.Kappa, Is.EqualTo(single.Kappa));
        for (int repeat = 0; repeat < 5; repeat++)
        {
            ThresholdDifferentialBackward<float> again = problem.Backward(new CpuExecution { Threads = threads });
            Assert.That(again.Key1.Data, Is.EqualTo(first.Key1.Data));
            Assert.That(again.Key2!.Data, Is.EqualTo(first.Key2!.Data));
            Assert.That(again.Value.Data, Is.EqualTo(first.Value.Data));
        }
    }

    [Test]
    public void Beta_and_lambda_may_differ_between_heads()
    {
        ThresholdCase test = new("per head") { QueryHeads = 4, KeyHeads = 2, Queries = 80, Keys = 80, HeadDim = 16, ValueDim = 16 };
        CpuThreshold problem = new(test);
        problem.Parameters = problem.Parameters with { Lambda = [0, 0.5, 1, -1] };
        problem.AssertForward();
        problem.AssertBackward();
        problem.Parameters = problem.Parameters with { Beta = [0.1, 0.4, 0.8, 1.2] };
        ThresholdDifferentialBackward<float> actual = problem.Backward();
        ThresholdDifferentialBackward<double> expected = problem.ReferenceBackward();
        Assert.That(actual.Beta, Is.EqualTo(expected.Beta).Within(1e-4 * expected.Beta.Max(Math.Abs)));
        Assert.That(actual.Lambda, Is.EqualTo(expected.Lambda).Within(1e-4 * expected.Lambda.Max(Math.Abs)));
    }

    [Test]
    public void Zero_rows_give_zero_scores_and_finite_gradients()
    {
        ThresholdCase test = new("zero rows")
        {
            Queries = 70, Keys = 70, HeadDim = 16, ValueDim = 16, Options = new() { Beta = 0.3, Lambda = 0.5 },
        };
        CpuThreshold problem = new(test);
        problem.Query1.Row(0, 0, 3).Clear();
        problem.Query2!.Row(0, 1, 69).Clear();
        problem.Key1.Row(0, 0, 0).Clear();
        problem.Key2!.Row(0, 1, 64).Clear();
        problem.AssertForward();
        problem.AssertBackward();
    }

    [TestCase(1e-25f)]
    [TestCase(1e25f)]
    public void Rows_whose_squares_leave_the_range_of_float_are_normalized_all_the_same(float factor)
    {
        ThresholdCase test = new("extreme rows")
        {
            Queries = 20, Keys = 20, HeadDim = 16, ValueDim = 16, Options = new() { Beta = 0.3, Lambda = 0.5 },
        };
        CpuThreshold problem = new(test);
        for (int c = 0; c < 16; c++)
        {
            problem.Query1.Row(0, 0, 5)[c] *= factor;
            problem.Key2!.Row(0, 1, 7)[c] *= factor;
        }

        ThresholdDifferentialForward<float> actual = problem.Forward();
        double[] output = Array.ConvertAll(actual.Output.Data, value => (double)value);
        Assert.That(Deviation.Of(output, problem.ReferenceForward().Output.Data).Relative, Is.LessThanOrEqualTo(1e-5));
    }

    [Test]
    public void Nan_and_infinity_reach_exactly_the_rows_that_the_definition_says(
        [Values("q1", "k1", "q2", "k2", "v")] string where, [Values(float.NaN, float.PositiveInfinity)] float poison, [Values] bool dense)
    {
        ThresholdCase test = new("poison") { QueryHeads = 4, Queries = 140, Keys = 140, HeadDim = 16, ValueDim = 16 };
        CpuThreshold problem = new(test);
        HostArray<float> target = where switch
        {
            "q1" => problem.Query1,
            "k1" => problem.Key1,
            "q2" => problem.Query2!,
            "k2" => problem.Key2!,
            _ => problem.Value,
        };
        target.Row(0, 1, 70)[3] = poison;
        float[] actual = problem.Forward(tuning: dense ? s_dense : s_sparse).Output.Data;
        double[] expected = problem.ReferenceForward().Output.Data;
        Assert.That(
            expected.Count(double.IsFinite), Is.GreaterThan(0).And.LessThan(expected.Length), "the poison shows, and not everywhere");
        for (int i = 0; i < actual.Length; i++)
        {
            Assert.That(float.IsFinite(actual[i]), Is.EqualTo(double.IsFinite(expected[i])), $"element {i}");
        }

        CpuThreshold clean = new(test);
        float[] untouched = clean.Forward().Output.Data;
        for (int i = 0; i < actual.Length; i++)
        {
            Assert.That(!float.IsFinite(actual[i]) || actual[i] == untouched[i], $"element {i} changed although it is finite");
        }
    }

    [Test]
    public void Nan_in_one_head_leaves_the_gradients_of_other_heads_alone([Values] bool dense)
    {
        ThresholdCase test = new("poison") { QueryHeads = 2, KeyHeads = 2, Queries = 100, Keys = 100, HeadDim = 16, ValueDim = 16 };
        ThresholdTuning tuning = dense ? s_dense : s_sparse;
        CpuThreshold problem = new(test);
        ThresholdDifferentialBackward<float> clean = problem.Backward(tuning: tuning);
        problem.Query1.Row(0, 1, 50)[0] = float.NaN;
        ThresholdDifferentialBackward<float> actual = problem.Backward(tuning: tuning);
        Assert.That(actual.Key1.Head(0, 0).ToArray(), Is.EqualTo(clean.Key1.Head(0, 0).ToArray()));
        // A causal row 50 sees keys 0 to 50: keys beyond have no part in it.
        for (int key = 51; key < 100; key++)
        {
            Assert.That(actual.Key1.Row(0, 1, key).ToArray(), Is.EqualTo(clean.Key1.Row(0, 1, key).ToArray()).Within(1e-6f), $"key {key}");
        }
    }

    [Test]
    public void Cancellation_is_seen()
    {
        CpuThreshold problem = new(new ThresholdCase("cancelled") { Queries = 300, Keys = 300 });
        using CancellationTokenSource source = new();
        CpuExecution execution = new() { Cancellation = source.Token, Progress = _ => source.Cancel() };
        Assert.That(() => problem.Forward(execution), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(() => problem.Backward(execution), Throws.InstanceOf<OperationCanceledException>());
    }

    private static void Structure(Span<float> row, int kind, Random random)
    {
        switch (kind)
        {
            case 0:
                row.Fill(1);
                break;
            case 1:
                row.Fill(-1);
                break;
            case 2:
                row.Clear();
                row[0] = 1;
                break;
            case 3:
                row.Clear();
                row[^1] = -3;
                break;
            case 4:
                for (int c = 0; c < row.Length; c++)
                {
                    row[c] = c % 4 < 2 ? 1 : 0;
                }

                break;
            case 5:
                for (int c = 0; c < row.Length; c++)
                {
                    row[c] = c % 4 < 2 ? 1e-3f : -1;
                }

                break;
            case 6:
                for (int c = 0; c < row.Length; c++)
                {
                    row[c] = random.Next(2) == 0 ? 1 : -1;
                }

                break;
            default:
                row[0] *= 50;
                break;
        }
    }

    private static ThresholdCase Masked(string name, int queries, int keys, AttentionMask mask) => new(name)
    {
        Queries = queries, Keys = keys, HeadDim = 16, ValueDim = 16, Options = new() { Beta = 0.4, Lambda = 0.5, Mask = mask },
    };

    private static ThresholdCase With(string name, Func<ThresholdDifferentialOptions, ThresholdDifferentialOptions> change)
    {
        ThresholdCase test = new(name) { Queries = 100, Keys = 100, HeadDim = 16, ValueDim = 16, Seed = 7 };
        return test with { Options = change(test.Options) };
    }

    private static void AssertSame(ThresholdDifferentialForward<float> actual, ThresholdDifferentialForward<float> expected)
    {
        Assert.That(actual.Output.Data, Is.EqualTo(expected.Output.Data));
        Assert.That(actual.Survivors1, Is.EqualTo(expected.Survivors1));
        Assert.That(actual.Survivors2, Is.EqualTo(expected.Survivors2));
    }
}
