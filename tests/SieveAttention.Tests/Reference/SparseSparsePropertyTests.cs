using NUnit.Framework;
using SieveAttention.Reference;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

/// <summary>What has to hold for every sparse sparse problem; the numbers are those of the invariants in the specification.</summary>
internal sealed class SparseSparsePropertyTests
{
    [Test]
    public void Rows_whose_blocks_cover_all_visible_keys_have_equal_streams_and_drop_nothing() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = SparseSparseCase.Random(seed);
        test = test.With(o => o with { Selection = BlockSelectionRule.Exact, BlockCount = (test.Keys / o.BlockSize) + 1 });
        using SparseSparseResult result = test.On(AttentionDevice.Reference).Forward(test.Inputs());
        using SparseSparseStatistics statistics = test.On(AttentionDevice.Reference).Statistics(test.Inputs());
        Assert.That(Values.Doubles(result.SparseOutput!), Is.EqualTo(Values.Doubles(result.FullOutput!)));
        Assert.That(Values.Doubles(result.SparseLogSumExp!), Is.EqualTo(Values.Doubles(result.FullLogSumExp!)));
        Assert.That(result.AlignmentLoss!.AsSpan<double>()[0], Is.Zero);
        Assert.That(Values.Doubles(statistics.DroppedMass), Is.All.Zero);
    });

    [Test]
    public void Dropped_mass_is_the_full_weight_of_unselected_keys_and_bounds_the_error() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = SparseSparseCase.Random(seed);
        SparseSparseInputs inputs = test.Inputs();
        using SparseSparseStatistics statistics = test.On(AttentionDevice.Reference).Statistics(inputs);
        SparseSparseInputs plain = inputs with { Gate = null, NormGain = null };
        using SparseSparseResult result = new SparseSparseAttention(
            AttentionDevice.Reference, test.Options with { Epilogue = new OutputEpilogue() }).Forward(plain);
        HostArray<double> sparse = HostArray<double>.Read(result.SparseOutput!);
        HostArray<double> full = HostArray<double>.Read(result.FullOutput!);
        HostArray<double> v = HostArray<double>.Read(inputs.Value);
        double[] mass = Values.Doubles(statistics.DroppedMass);
        double[] error = Values.Doubles(statistics.Error);
        double[] bound = Values.Doubles(statistics.ErrorBound);
        AttentionProblem problem = test.Problem;
        foreach ((int b, int h, int i) in Rows(problem))
        {
            (double[] weights, bool[] selected) = Weights(problem, test.Options, inputs, result.BlockIndices!, b, h, i);
            double dropped = weights.Where((_, j) => !selected[j]).Sum();
            int row = new RowPlace(b, h, i, default).Index(problem);
            Assert.That(mass[row], Is.EqualTo(dropped).Within(1e-13), "1 - delta = exp(L_s - L_f)");
            Assert.That(error[row], Is.LessThanOrEqualTo(bound[row] + 1e-13), "Theorem 1");

            // o_f = (1 - delta) o_s + dropped part
            double[] expected = Array.ConvertAll(sparse.Row(b, h, i).ToArray(), value => (1 - dropped) * value);
            for (int j = 0; j < weights.Length; j++)
            {
                for (int c = 0; c < expected.Length && !selected[j]; c++)
                {
                    expected[c] += weights[j] * v.Row(b, problem.KeyHead(h), j)[c];
                }
            }

            Assert.That(Deviation.Of(full.Row(b, h, i), expected).Max, Is.LessThanOrEqualTo(1e-12));
        }
    });

    [Test]
    public void Lists_are_ascending_visible_full_and_contain_the_own_block() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = SparseSparseCase.Random(seed);
        SparseSparseOptions options = test.Options;
        using SparseSparseResult result = test.On(AttentionDevice.Reference).Forward(test.Inputs());
        BlockLists lists = BlockLists.Read(test.Problem, options.BlockSize, result.BlockIndices!, "BlockIndices");
        Assert.That(lists.Indices, Is.EqualTo(result.BlockIndices!.AsSpan<int>().ToArray()), "sorted, unused slots at the end");
        for (int i = 0; i < test.Queries; i++)
        {
            int own = (int)((i + test.Problem.QueryOffset) / options.BlockSize);
            ReadOnlySpan<int> list = lists.Used(0, 0, i);
            Assert.That(list[^1], Is.EqualTo(own));
            if (options.Selection == BlockSelectionRule.Exact)
            {
                Assert.That(list.Length, Is.EqualTo(Math.Min(own + 1, options.BlockCount)));
            }
        }
    });

    [Test]
    public void The_released_rule_is_exact_up_to_half_a_chunk_of_blocks() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = Long(seed, blockSize: 8, blockCount: 1 + (seed % 4));
        Assert.That(Select(test, BlockSelectionRule.Released).Indices, Is.EqualTo(Select(test, BlockSelectionRule.Exact).Indices));
    });

    [Test]
    public void The_released_rule_with_as_many_blocks_as_a_chunk_keeps_half_of_each_chunk()
    {
        // 16 x 16 as published: beyond two chunks never the exact choice, 60 % of it on average, 14 blocks on average.
        SparseSparseCase test = Long(1, blockSize: 16, blockCount: 16) with { Keys = 2048, Queries = 2048 };
        BlockLists released = Select(test, BlockSelectionRule.Released);
        BlockLists exact = Select(test, BlockSelectionRule.Exact);
        double overlap = 0;
        double count = 0;
        int rows = 0;
        for (int i = 2 * 16 * 16; i < test.Queries; i++)
        {
            int[] mine = released.Used(0, 0, i).ToArray();
            int own = i / 16;
            int chunk = own / 16 * 16;
            Assert.That(mine.Count(block => block < chunk), Is.EqualTo(8), "half of a chunk before the own one");
            Assert.That(mine, Has.Length.EqualTo(8 + Math.Min(8, own + 1 - chunk)));
            overlap += mine.Intersect(exact.Used(0, 0, i).ToArray()).Count() / 16.0;
            count += mine.Length;
            rows++;
        }

        Assert.That(overlap / rows, Is.EqualTo(0.6).Within(0.08));
        Assert.That(count / rows, Is.EqualTo(14.25).Within(0.3));
    }

    [Test]
    public void The_order_of_given_blocks_does_not_matter() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = SparseSparseCase.Random(seed);
        SparseSparseAttention attention = test.On(AttentionDevice.Reference);
        using SparseSparseResult expected = attention.Forward(test.Inputs());
        AttentionTensor shuffled = expected.BlockIndices!.ToHost();
        int count = test.Options.BlockCount;
        for (int row = 0; row < shuffled.AsSpan<int>().Length / count; row++)
        {
            new Random(seed + row).Shuffle(shuffled.AsSpan<int>().Slice(row * count, count));
        }

        using SparseSparseResult result = attention.Forward(test.Inputs() with { BlockIndices = shuffled });
        Assert.That(Values.Doubles(result.SparseOutput!), Is.EqualTo(Values.Doubles(expected.SparseOutput!)));
        Assert.That(result.BlockIndices!.AsSpan<int>().ToArray(), Is.EqualTo(expected.BlockIndices!.AsSpan<int>().ToArray()));
    });

    [Test]
    public void A_row_alone_is_the_row_among_others() => Properties.ForAllSeeds(seed =>
    {
        SparseSparseCase test = SparseSparseCase.Random(seed).With(o => o with { Mask = new AttentionMask() });
        test = test with { Queries = test.Keys };
        SparseSparseInputs inputs = test.Inputs();
        using SparseSparseResult all = test.On(AttentionDevice.Reference).Forward(inputs);
        int t = seed % test.Keys;
        SparseSparseInputs step = new()
        {
            Query = inputs.Query.Slice(2, t, 1),
            Key = inputs.Key.Slice(2, 0, t + 1),
            Value = inputs.Value.Slice(2, 0, t + 1),
            NormGain = inputs.NormGain,
            Gate = inputs.Gate?.Slice(2, t, 1),
        };
        using SparseSparseResult one = test.On(AttentionDevice.Reference).Forward(step);
        Assert.That(Values.Doubles(one.SparseOutput!), Is.EqualTo(Values.Doubles(all.SparseOutput!.Slice(2, t, 1))));
        Assert.That(Values.Doubles(one.FullOutput!), Is.EqualTo(Values.Doubles(all.FullOutput!.Slice(2, t, 1))));
        Assert.That(
            one.BlockIndices!.AsSpan<int>().ToArray(), Is.EqualTo(all.BlockIndices!.Slice(2, t, 1).ToHost().AsSpan<int>().ToArray()));
    });

    [Test]
    public void Equal_blocks_go_to_the_smaller_index()
    {
        SparseSparseCase test = new("ties") { Queries = 20, Keys = 20, Options = new() { BlockSize = 2, BlockCount = 3 } };
        SparseSparseInputs inputs = test.Inputs();
        inputs.Key.AsSpan<double>().Fill(0.25);
        using SparseSparseResult result = test.On(AttentionDevice.Reference).Forward(inputs);
        Assert.That(result.BlockIndices!.AsSpan<int>()[^3..].ToArray(), Is.EqualTo(new[] { 0, 1, 9 }));
    }

    [Test]
    public void The_selection_has_no_gradient()
    {
        // Of keys that no row selects only the importance depends.
        SparseSparseCase test = new("indices") { Queries = 4, Keys = 32, Options = new() { BlockSize = 4, BlockCount = 2 } };
        SparseSparseAttention attention = test.On(AttentionDevice.Reference);
        using SparseSparseResult result = attention.Forward(test.Inputs());
        using SparseSparseGradients gradients = attention.Backward(test.Inputs(), test.OutputGradient());
        int[] selected = result.BlockIndices!.AsSpan<int>().ToArray();
        HostArray<double> dk = HostArray<double>.Read(gradients.Key);
        for (int j = 0; j < test.Keys; j++)
        {
            Assert.That(dk.Row(0, 0, j).ToArray().Any(x => x != 0), Is.EqualTo(selected.Contains(j / 4)), $"key {j}");
        }
    }

    private static SparseSparseCase Long(int seed, int blockSize, int blockCount) => new("long")
    {
        Seed = seed,
        Keys = 300,
        Queries = 300,
        HeadDim = 16,
        Options = new SparseSparseOptions { BlockSize = blockSize, BlockCount = blockCount },
    };

    private static BlockLists Select(SparseSparseCase test, BlockSelectionRule rule)
    {
        SparseSparseInputs inputs = test.Inputs();
        SparseSparseParameters parameters = (test.Options with { Selection = rule }).ToParameters(test.Problem);
        return BlockSelector.Select(
            test.Problem, parameters, HostArray<double>.Read(inputs.Query), HostArray<double>.Read(inputs.Key));
    }

    private static IEnumerable<(int Batch, int Head, int Row)> Rows(AttentionProblem problem) =>
        from b in Enumerable.Range(0, problem.Batch)
        from h in Enumerable.Range(0, problem.QueryHeads)
        from i in Enumerable.Range(0, problem.Queries)
        select (b, h, i);

    /// <summary>Weights of full attention of one row, and which keys are selected, straight from the definition.</summary>
    private static (double[] Weights, bool[] Selected) Weights(
        AttentionProblem problem, SparseSparseOptions options, SparseSparseInputs inputs, AttentionTensor indices, int b, int h, int i)
    {
        HostArray<double> q = HostArray<double>.Read(inputs.Query);
        HostArray<double> k = HostArray<double>.Read(inputs.Key);
        int visible = (int)(i + problem.QueryOffset + 1);
        int[] blocks = indices.Slice(0, b, 1).Slice(1, problem.KeyHead(h), 1).Slice(2, i, 1).ToHost().AsSpan<int>().ToArray();
        double[] weights = new double[visible];
        for (int j = 0; j < visible; j++)
        {
            weights[j] = Math.Exp(UnitVectors.Dot(q.Row(b, h, i), k.Row(b, problem.KeyHead(h), j)) / Math.Sqrt(problem.HeadDim));
        }

        double sum = weights.Sum();
        return (
            Array.ConvertAll(weights, w => w / sum),
            Array.ConvertAll(Enumerable.Range(0, visible).ToArray(), j => blocks.Contains(j / options.BlockSize)));
    }
}
