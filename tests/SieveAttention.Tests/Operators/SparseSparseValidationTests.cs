using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Every bad input has one clear error: the name, the value received and what is allowed.</summary>
internal sealed class SparseSparseValidationTests
{
    private static readonly SparseSparseCase s_case = new("valid") { Queries = 9, Keys = 12 };

    private static readonly SparseSparseCase s_both = s_case.With(o => o with { Stream = SparseSparseMode.Both });

    private static readonly TestCaseData<Func<SparseSparseOptions, SparseSparseOptions>, string, string>[] s_badOptions =
    [
        Bad(o => o with { BlockSize = 0 }, "BlockSize is 0", "1 to"),
        Bad(o => o with { BlockCount = -1 }, "BlockCount is -1", "1 to"),
        Bad(o => o with { AlignmentWeight = double.NaN }, "AlignmentWeight is NaN", "at least 0"),
        Bad(o => o with { AlignmentWeight = -1 }, "AlignmentWeight is -1", "at least 0"),
        Bad(o => o with { Stream = (SparseSparseMode)9 }, "Stream is 9", "Sparse, Full, Both"),
        Bad(o => o with { Selection = (BlockSelectionRule)9 }, "Selection is 9", "Exact, Released"),
        Bad(o => o with { Alignment = (AlignmentPlacement)9 }, "Alignment is 9", "Gated, Ungated"),
        Bad(o => o with { Selection = BlockSelectionRule.Released, BlockSize = 12 }, "BlockSize is 12", "power of two"),
        Bad(o => o with { Selection = BlockSelectionRule.Released, BlockSize = 1 }, "BlockSize is 1", "power of two"),
        Bad(o => o with { Selection = BlockSelectionRule.Released, BlockCount = 5 }, "BlockCount is 5", "1 to 4 (BlockSize)"),
        Bad(o => o with { Scores = new ScoreOptions { Scale = double.NaN } }, "Scale is NaN", "finite"),
        Bad(o => o with { Scores = new ScoreOptions { RowFactor = RowFactor.Ssmax(1) } }, "RowFactor is Ssmax", "None"),
        Bad(o => o with { Scores = new ScoreOptions { AlibiSlopes = [0.5, 0.25] } }, "AlibiSlopes is [0.5, 0.25]", "absent"),
        Bad(o => o with { Mask = AttentionMask.Full }, "Causal is False", "true"),
        Bad(o => o with { Mask = new AttentionMask { Window = 3 } }, "Window is 3", "absent"),
    ];

    [TestCaseSource(nameof(s_badOptions))]
    public void A_parameter_out_of_range_or_without_a_meaning_is_refused(
        Func<SparseSparseOptions, SparseSparseOptions> change, string received, string allowed)
    {
        Assert.That(
            () => new SparseSparseAttention(AttentionDevice.Reference, change(s_case.Options)),
            Throws.TypeOf<ArgumentOutOfRangeException>()
                .With.Message.Contains(received).And.Message.Contains(allowed)
                .And.Property(nameof(ArgumentException.ParamName)).EqualTo(received[..received.IndexOf(' ', StringComparison.Ordinal)]));
    }

    [TestCase(-1, "QueryOffset is -1; allowed: 0 to 3")]
    [TestCase(4, "QueryOffset is 4; allowed: 0 to 3")]
    public void Every_query_row_lies_inside_the_keys(int offset, string message)
    {
        SparseSparseCase test = s_case.With(o => o with { Mask = new AttentionMask { QueryOffset = offset } });
        Assert.That(
            () => test.On(AttentionDevice.Cpu).Forward(test.Inputs()),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains(message));
    }

    [Test]
    public void More_queries_than_keys_are_refused()
    {
        SparseSparseCase test = s_case with { Queries = 13 };
        Assert.That(
            () => test.On(AttentionDevice.Reference).Forward(test.Inputs()),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains("QueryOffset is -1; allowed: none with 13 queries and 12 keys"));
    }

    [TestCase(new[] { 1, 1 }, "BlockIndices[0, 0, 8] has block 1 twice; allowed: each block once")]
    [TestCase(new[] { 0, 3 }, "BlockIndices[0, 0, 8] has block 3; allowed: 0 to 2")]
    [TestCase(new[] { -2, 0 }, "BlockIndices[0, 0, 8] has block -2; allowed: 0 to 2")]
    public void Given_blocks_are_visible_and_there_once(int[] last, string message)
    {
        SparseSparseCase test = s_case with { Keys = 9 };
        AttentionTensor indices = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 1, 9, 2));
        indices.AsSpan<int>().Fill(-1);
        last.CopyTo(indices.AsSpan<int>()[^2..]);
        Assert.That(
            () => test.On(AttentionDevice.Reference).Forward(test.Inputs() with { BlockIndices = indices }),
            Throws.InstanceOf<ArgumentException>().With.Message.Contains(message));
    }

    [Test]
    public void Given_blocks_have_the_shape_and_type_of_a_result()
    {
        SparseSparseInputs inputs = s_case.Inputs();
        AttentionTensor wide = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 1, 9, 3));
        AttentionTensor real = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 9, 2));
        Assert.Multiple(() =>
        {
            AssertRefused(s_case, inputs with { BlockIndices = wide }, "BlockIndices has shape [1, 1, 9, 3]", "[1, 1, 9, 2]");
            AssertRefused(s_case, inputs with { BlockIndices = real }, "BlockIndices has elements of type Float32", "Int32");
            AssertRefused(s_case, inputs with { Gate = real }, "Gate has shape [1, 1, 9, 2]", "[1, 2, 9, 1]");
        });
    }

    [Test]
    public void Gradients_and_outputs_belong_to_computed_streams()
    {
        SparseSparseInputs inputs = s_case.Inputs();
        AttentionTensor gradient = s_case.OutputGradient();
        SparseSparseAttention sparse = s_case.On(AttentionDevice.Reference);
        SparseSparseAttention both = s_both.On(AttentionDevice.Reference);
        Assert.Multiple(() =>
        {
            Assert.That(
                () => sparse.Backward(inputs, null, gradient),
                Throws.ArgumentException.With.Message.Contains("fullGradient is given, but Stream is Sparse"));
            Assert.That(() => both.Backward(inputs, gradient), Throws.InvalidOperationException.With.Message.Contains("two outputs"));
            Assert.That(
                () => sparse.Forward(inputs, new SparseSparseResult { SparseOutput = gradient, FullOutput = gradient }),
                Throws.ArgumentException.With.Message.Contains("FullOutput is given, but Stream is Sparse"));
            Assert.That(
                () => both.Forward(inputs, new SparseSparseResult { SparseOutput = gradient }),
                Throws.ArgumentNullException.With.Property(nameof(ArgumentException.ParamName)).EqualTo("FullOutput"));
        });
    }

    [TestCase("reference", TensorType.Float64)]
    [TestCase("cpu", TensorType.Float32)]
    public void Results_can_be_written_into_the_callers_tensors(string device, TensorType type)
    {
        SparseSparseInputs inputs = s_both.Inputs();
        SparseSparseAttention attention = s_both.On(AttentionDevice.Parse(device));
        using SparseSparseResult expected = attention.Forward(inputs);
        using SparseSparseResult into = new()
        {
            SparseOutput = AttentionTensor.Allocate(type, new TensorShape(1, 9, 2, 8)).Permute(0, 2, 1, 3),
            FullOutput = AttentionTensor.Allocate(TensorType.BFloat16, s_both.OutputShape),
            BlockIndices = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 1, 9, 2)),
        };
        attention.Forward(inputs, into);
        Assert.That(expected.SparseOutput!.Type, Is.EqualTo(type));
        Assert.That(Values.Doubles(into.SparseOutput), Is.EqualTo(Values.Doubles(expected.SparseOutput)));
        Assert.That(into.BlockIndices.AsSpan<int>().ToArray(), Is.EqualTo(expected.BlockIndices!.AsSpan<int>().ToArray()));
        double[] rounded = Array.ConvertAll(Values.Doubles(expected.FullOutput!), value => Values.Round(value, TensorType.BFloat16));
        Assert.That(Values.Doubles(into.FullOutput), Is.EqualTo(rounded));
    }

    private static TestCaseData<Func<SparseSparseOptions, SparseSparseOptions>, string, string> Bad(
        Func<SparseSparseOptions, SparseSparseOptions> change, string received, string allowed) => new(change, received, allowed);

    private static void AssertRefused(SparseSparseCase test, SparseSparseInputs inputs, string received, string allowed) =>
        Assert.That(
            () => test.On(AttentionDevice.Reference).Forward(inputs),
            Throws.ArgumentException.With.Message.Contains(received).And.Message.Contains(allowed));
}
