using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;
using SieveAttention.Tests.Support;
using CpuSparseSparse = SieveAttention.Cpu.SparseSparse;

namespace SieveAttention.Tests.Cpu;

/// <summary>The float32 path of sparse sparse attention against the reference on the same float32 inputs.</summary>
internal sealed class SparseSparseTests
{
    private static readonly SparseSparseCase s_large = new("large")
    {
        QueryHeads = 8,
        KeyHeads = 2,
        Queries = 700,
        Keys = 731,
        HeadDim = 64,
        ValueDim = 48,
        Options = new SparseSparseOptions { BlockSize = 16, BlockCount = 8, Stream = SparseSparseMode.Both },
    };

    private static readonly SparseSparseCase[] s_cases =
    [
        s_large,
        (s_large with { Name = "released" }).With(o => o with { Selection = BlockSelectionRule.Released, BlockCount = 16 }),
        (s_large with { Name = "odd blocks" }).With(o => o with { BlockSize = 11, BlockCount = 5 }),
        (s_large with { Name = "blocks of one key" }).With(o => o with { BlockSize = 1, BlockCount = 40 }),
        (s_large with { Name = "large blocks" }).With(o => o with { BlockSize = 128, BlockCount = 2 }),
        (s_large with { Name = "one block" }).With(o => o with { BlockCount = 1 }),
        s_large with { Name = "one head", QueryHeads = 1, KeyHeads = 1 },
        s_large with { Name = "more heads than a tile has rows", QueryHeads = 80, KeyHeads = 1, Queries = 90, Keys = 95, HeadDim = 8 },
    ];

    [TestCaseSource(nameof(s_cases))]
    public void Large_problems_agree_with_the_reference(SparseSparseCase test) => AssertAgrees(test);

    [Test]
    public void Random_problems_agree_with_the_reference() =>
        Properties.ForAllSeeds(seed => AssertAgrees(SparseSparseCase.Random(seed)), count: 150);

    [TestCase(16)]
    [TestCase(8)]
    [TestCase(4)]
    public void Every_vector_width_agrees_with_the_reference(int width)
    {
        Assume.That(width, Is.LessThanOrEqualTo(LaneChoice.Widest));
        foreach (SparseSparseCase test in s_cases[..3])
        {
            AssertStreamsAgree(test, new CpuExecution { VectorWidth = width });
        }
    }

    [Test]
    public void Sparse_gradients_from_selected_blocks_and_full_gradients_add_up_to_the_fused_ones()
    {
        foreach (SparseSparseCase test in s_cases[..4])
        {
            (AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<float> inputs) = Arrays<float>(test);
            (HostArray<float> dSparse, HostArray<float> dFull) = Gradients<float>(test);
            SparseSparseForward<float> forward = CpuSparseSparse.Forward(problem, parameters, inputs, true, true);
            RowGradients<float> sparse = CpuSparseSparse.Backward(problem, parameters, inputs, forward, dSparse, null);
            RowGradients<float> full = CpuSparseSparse.Backward(problem, parameters, inputs, forward, null, dFull);
            RowGradients<float> both = CpuSparseSparse.Backward(problem, parameters, inputs, forward, dSparse, dFull);
            AssertSum(both.Query, sparse.Query, full.Query);
            AssertSum(both.Key, sparse.Key, full.Key);
            AssertSum(both.Value, sparse.Value, full.Value);
        }

        static void AssertSum(HostArray<float> sum, HostArray<float> first, HostArray<float> second) =>
            Assert.That(
                Deviation.Of(Doubles(sum.Data), [.. first.Data.Zip(second.Data, (a, b) => (double)a + b)]).Relative, Is.LessThan(1e-5));
    }

    [Test]
    public void Results_do_not_depend_on_the_number_of_threads()
    {
        (AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<float> inputs) = Arrays<float>(s_large);
        (HostArray<float> dSparse, HostArray<float> dFull) = Gradients<float>(s_large);
        CpuExecution one = new() { Threads = 1 };
        CpuExecution three = new() { Threads = 3 };
        SparseSparseForward<float> expected = CpuSparseSparse.Forward(problem, parameters, inputs, true, true, one);
        SparseSparseForward<float> actual = CpuSparseSparse.Forward(problem, parameters, inputs, true, true, three);
        Assert.That(actual.Sparse!.Output.Data, Is.EqualTo(expected.Sparse!.Output.Data));
        Assert.That(actual.Full!.Output.Data, Is.EqualTo(expected.Full!.Output.Data));
        Assert.That(actual.Blocks!.Indices, Is.EqualTo(expected.Blocks!.Indices));
        RowGradients<float> first = CpuSparseSparse.Backward(problem, parameters, inputs, actual, dSparse, dFull, three);
        RowGradients<float> second = CpuSparseSparse.Backward(problem, parameters, inputs, actual, dSparse, dFull, three);
        RowGradients<float> alone = CpuSparseSparse.Backward(problem, parameters, inputs, actual, dSparse, dFull, one);
        Assert.That(second.Key.Data, Is.EqualTo(first.Key.Data), "repeated with the same number");
        Assert.That(alone.Query.Data, Is.EqualTo(first.Query.Data));
        Assert.That(Deviation.Of(Doubles(alone.Key.Data), Doubles(first.Key.Data)).Relative, Is.LessThan(1e-5));
    }

    [Test]
    public void Equal_keys_are_chosen_as_by_the_reference()
    {
        // Every cut is a tie: float alone could not decide.
        SparseSparseCase test = s_large with { Queries = 300, Keys = 300 };
        SparseSparseInputs inputs = test.Inputs(TensorType.Float32);
        foreach (double key in new[] { 0, 0.3 })
        {
            inputs.Key.AsSpan<float>().Fill((float)key);
            using SparseSparseResult expected = test.On(AttentionDevice.Reference).Forward(inputs);
            using SparseSparseResult actual = test.On(AttentionDevice.Cpu).Forward(inputs);
            Assert.That(actual.BlockIndices!.AsSpan<int>().ToArray(), Is.EqualTo(expected.BlockIndices!.AsSpan<int>().ToArray()));
        }
    }

    [Test]
    public void Very_sharp_selections_are_those_of_the_reference()
    {
        // Scores of some hundreds: most importances vanish in float.
        SparseSparseCase test = s_large.With(o => o with { Scores = new ScoreOptions { Scale = 40 } });
        SparseSparseInputs inputs = test.Inputs(TensorType.Float32);
        using SparseSparseResult expected = test.On(AttentionDevice.Reference).Forward(inputs);
        using SparseSparseResult actual = test.On(AttentionDevice.Cpu).Forward(inputs);
        Assert.That(actual.BlockIndices!.AsSpan<int>().ToArray(), Is.EqualTo(expected.BlockIndices!.AsSpan<int>().ToArray()));
    }

    [Test]
    public void Rows_without_a_block_have_no_sparse_output_and_no_gradient()
    {
        SparseSparseCase test = s_large with { Queries = 70, Keys = 70 };
        SparseSparseInputs inputs = test.Inputs(TensorType.Float32);
        AttentionTensor indices = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 2, 70, 8));
        indices.AsSpan<int>().Fill(-1);
        for (int i = 1; i < 70; i += 2)
        {
            indices.AsSpan<int>()[(8 * i) + 3] = i / 16;
        }

        inputs = inputs with { BlockIndices = indices };
        AssertAgrees(test, inputs);
        using SparseSparseResult result = test.On(AttentionDevice.Cpu).Forward(inputs);
        Assert.That(HostArray<double>.Read(result.SparseOutput!).Row(0, 0, 2).ToArray(), Is.All.Zero);
        Assert.That(Values.Doubles(result.SparseLogSumExp!)[2], Is.EqualTo(double.NegativeInfinity));
    }

    [Test]
    public void A_key_that_is_not_a_number_reaches_only_rows_after_it()
    {
        SparseSparseCase test = s_large with { Queries = 200, Keys = 200 };
        SparseSparseInputs inputs = test.Inputs(TensorType.Float32);
        HostArray<float> v = HostArray<float>.Read(inputs.Value);
        v.Row(0, 0, 150).Fill(float.NaN);
        inputs = inputs with { Value = AttentionTensor.From<float>(v.Data, v.Shape) };
        using SparseSparseResult result = test.On(AttentionDevice.Cpu).Forward(inputs);
        using SparseSparseGradients gradients = test.On(AttentionDevice.Cpu)
            .Backward(inputs, test.OutputGradient(1), test.OutputGradient(2));
        HostArray<double> sparse = HostArray<double>.Read(result.SparseOutput!);
        HostArray<double> dq = HostArray<double>.Read(gradients.Query);
        for (int i = 0; i < 200; i++)
        {
            bool selects = result.BlockIndices!.AsSpan<int>().Slice(8 * i, 8).Contains(150 / 16) && i >= 150;
            Assert.That(sparse.Row(0, 0, i).ToArray().Any(double.IsNaN), Is.EqualTo(selects), $"row {i}");
            Assert.That(dq.Row(0, 0, i).ToArray().Any(double.IsNaN), Is.EqualTo(i >= 150), $"gradient of row {i}");
        }
    }

    private static void AssertAgrees(SparseSparseCase test, SparseSparseInputs? given = null)
    {
        SparseSparseInputs inputs = given ?? test.Inputs(TensorType.Float32);
        using SparseSparseResult expected = test.On(AttentionDevice.Reference).Forward(inputs);
        using SparseSparseResult actual = test.On(AttentionDevice.Cpu).Forward(inputs);
        Assert.That(
            actual.BlockIndices!.AsSpan<int>().ToArray(), Is.EqualTo(expected.BlockIndices!.AsSpan<int>().ToArray()), "block indices");
        AssertClose("sparse", actual.SparseOutput, expected.SparseOutput, 1e-5);
        AssertClose("full", actual.FullOutput, expected.FullOutput, 1e-5);
        AssertClose("L_s", actual.SparseLogSumExp, expected.SparseLogSumExp, 1e-5);
        AssertClose("L_f", actual.FullLogSumExp, expected.FullLogSumExp, 1e-5);
        Assert.That(
            Values.Doubles(actual.AlignmentLoss!)[0],
            Is.EqualTo(Values.Doubles(expected.AlignmentLoss!)[0]).Within(1e-5),
            "alignment loss");
        AssertGradients(test, inputs, test.OutputGradient(1), test.OutputGradient(2));
        AssertGradients(test.With(o => o with { AlignmentWeight = 0 }), inputs, test.OutputGradient(1), null);
        AssertGradients(test.With(o => o with { AlignmentWeight = 0 }), inputs, null, test.OutputGradient(2));
    }

    private static void AssertGradients(SparseSparseCase test, SparseSparseInputs inputs, AttentionTensor? dSparse, AttentionTensor? dFull)
    {
        using SparseSparseGradients expected = test.On(AttentionDevice.Reference).Backward(inputs, dSparse, dFull);
        using SparseSparseGradients actual = test.On(AttentionDevice.Cpu).Backward(inputs, dSparse, dFull);
        AssertClose("dq", actual.Query, expected.Query, 1e-4);
        AssertClose("dk", actual.Key, expected.Key, 1e-4);
        AssertClose("dv", actual.Value, expected.Value, 1e-4);
        AssertClose("dgain", actual.NormGain, expected.NormGain, 1e-4);
        AssertClose("dgate", actual.Gate, expected.Gate, 1e-4);
    }

    private static void AssertClose(string name, AttentionTensor? actual, AttentionTensor? expected, double tolerance)
    {
        Assert.That(actual is null, Is.EqualTo(expected is null), name);
        if (expected is not null)
        {
            // Where everything cancels (one key a row) the expected gradient is rounding itself: an absolute floor.
            Deviation deviation = Deviation.Of(Values.Doubles(actual!), Values.Doubles(expected));
            Assert.That(deviation.Max, Is.LessThanOrEqualTo(tolerance * Math.Max(deviation.Scale, 0.1)), $"{name}: {deviation}");
        }
    }

    private static void AssertStreamsAgree(SparseSparseCase test, CpuExecution execution)
    {
        (AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<float> inputs) = Arrays<float>(test);
        (_, _, SparseSparseArrays<double> exact) = Arrays<double>(test);
        (HostArray<float> dSparse, HostArray<float> dFull) = Gradients<float>(test);
        (HostArray<double> exactSparse, HostArray<double> exactFull) = Gradients<double>(test);
        SparseSparseForward<float> actual = CpuSparseSparse.Forward(problem, parameters, inputs, true, true, execution);
        SparseSparseForward<double> expected = SieveAttention.Reference.SparseSparse.Forward(problem, parameters, exact, true, true);
        Assert.That(actual.Blocks!.Indices, Is.EqualTo(expected.Blocks!.Indices));
        Assert.That(Deviation.Of(Doubles(actual.Sparse!.Output.Data), expected.Sparse!.Output.Data).Relative, Is.LessThan(1e-5));
        RowGradients<float> selected = CpuSparseSparse.Backward(problem, parameters, inputs, actual, dSparse, null, execution);
        RowGradients<double> exactSelected = SieveAttention.Reference.SparseSparse.Backward(
            problem, parameters, exact, expected, exactSparse, null);
        Assert.That(Deviation.Of(Doubles(selected.Key.Data), exactSelected.Key.Data).Relative, Is.LessThan(1e-4));
        RowGradients<float> both = CpuSparseSparse.Backward(problem, parameters, inputs, actual, dSparse, dFull, execution);
        RowGradients<double> exactBoth = SieveAttention.Reference.SparseSparse.Backward(
            problem, parameters, exact, expected, exactSparse, exactFull);
        Assert.That(Deviation.Of(Doubles(both.Query.Data), exactBoth.Query.Data).Relative, Is.LessThan(1e-4));
        Assert.That(Deviation.Of(Doubles(both.Value.Data), exactBoth.Value.Data).Relative, Is.LessThan(1e-4));
    }

    private static (AttentionProblem Problem, SparseSparseParameters Parameters, SparseSparseArrays<T> Inputs) Arrays<T>(
        SparseSparseCase test)
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T>
    {
        SparseSparseInputs inputs = test.Inputs(TensorType.Float32);
        return (
            test.Problem,
            test.Options.ToParameters(test.Problem),
            new SparseSparseArrays<T>(
                HostArray<T>.Read(inputs.Query), HostArray<T>.Read(inputs.Key), HostArray<T>.Read(inputs.Value), null, null, null));
    }

    private static (HostArray<T> Sparse, HostArray<T> Full) Gradients<T>(SparseSparseCase test)
        where T : unmanaged, System.Numerics.IFloatingPointIeee754<T> =>
        (HostArray<T>.Read(test.OutputGradient(1)), HostArray<T>.Read(test.OutputGradient(2)));

    private static double[] Doubles(float[] values) => Array.ConvertAll(values, value => (double)value);
}
