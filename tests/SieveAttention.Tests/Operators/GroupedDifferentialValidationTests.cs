using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// Every bad input of grouped differential attention has one clear error: the name, the value received and what is allowed.
/// </summary>
internal sealed class GroupedDifferentialValidationTests
{
    private static readonly GroupedDifferentialCase s_case = new("valid") { Queries = 3, Keys = 5 };

    private static readonly TestCaseData<GroupedDifferentialOptions, string, string>[] s_badOptions =
    [
        Bad(new() { Signals = 0 }, "Signals is 0", "1 to"),
        Bad(new() { Signals = -1 }, "Signals is -1", "1 to"),
        Bad(
            new() { Scores = new ScoreOptions { RowFactor = RowFactor.PerRow } },
            "RowFactor is PerRow",
            "None; differential attention has no row factor"),
        Bad(new() { Scores = new ScoreOptions { Scale = double.PositiveInfinity } }, "Scale is Infinity", "finite"),
        Bad(new() { Mask = new AttentionMask { Window = 0 } }, "Window is 0", "1 to"),
        Bad(new() { Epilogue = new OutputEpilogue { OutputScale = double.NaN } }, "OutputScale is NaN", "finite"),
    ];

    private static readonly AttentionDevice[] s_devices = [AttentionDevice.Reference, AttentionDevice.Cpu];

    [TestCaseSource(nameof(s_badOptions))]
    public void A_parameter_out_of_range_is_refused(GroupedDifferentialOptions options, string received, string allowed)
    {
        Assert.That(
            () => new GroupedDifferentialAttention(AttentionDevice.Reference, options),
            Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains(received).And.Message.Contains(allowed));
    }

    [TestCaseSource(nameof(s_devices))]
    public void A_misshapen_tensor_is_named_with_its_shape_and_the_expected_one(AttentionDevice device)
    {
        GroupedDifferentialInputs inputs = s_case.Inputs();
        Assert.Multiple(() =>
        {
            AssertRefused(s_case, device, inputs with { Key = inputs.Key.Slice(3, 0, 3) }, "Key", "[1, 2, 5, 3]", "[1, 2, 5, 4]");
            AssertRefused(s_case, device, inputs with { Value = inputs.Value.Slice(1, 0, 1) }, "Value", "[1, 1, 5, 4]", "[1, 2, 5, 4]");
            AssertRefused(
                s_case,
                device,
                inputs with { LambdaLogit = inputs.Query.Slice(3, 0, 1) },
                "LambdaLogit",
                "[1, 4, 3, 1]",
                "[batch, signal heads, queries, 1] = [1, 2, 3, 1]");
            AssertRefused(s_case, device, inputs with { Gate = inputs.Query.Slice(3, 0, 1) }, "Gate", "[1, 4, 3, 1]", "[1, 2, 3, 1]");
        });
    }

    [Test]
    public void Query_heads_have_to_fill_their_groups()
    {
        GroupedDifferentialCase three = s_case with { Options = new GroupedDifferentialOptions { Signals = 2 } };
        AssertRefused(three, AttentionDevice.Reference, s_case.Inputs(), "Query", "Query has 4 heads", "a multiple of Signals + 1 = 3");
    }

    [Test]
    public void A_missing_tensor_is_named()
    {
        Assert.That(
            () => s_case.Operator().Forward(s_case.Inputs() with { LambdaLogit = null! }),
            Throws.ArgumentNullException.With.Property(nameof(ArgumentException.ParamName)).EqualTo("LambdaLogit"));
    }

    [Test]
    public void Slopes_are_one_for_each_query_head_and_not_for_each_output_head()
    {
        GroupedDifferentialCase test = s_case with
        {
            Options = new GroupedDifferentialOptions { Scores = new ScoreOptions { AlibiSlopes = [0.1, 0.2] } },
        };
        AssertRefused(test, AttentionDevice.Cpu, test.Inputs(), "AlibiSlopes", "2 values", "4 query heads");
    }

    [Test]
    public void Outputs_and_upstream_gradients_have_the_heads_of_the_signals()
    {
        GroupedDifferentialInputs inputs = s_case.Inputs();
        AttentionTensor output = AttentionTensor.Allocate(TensorType.Float64, s_case.OutputShape);
        AttentionTensor rows = AttentionTensor.Allocate(TensorType.Float64, s_case.QueryShape with { Channels = 1 });
        AttentionTensor allHeads = AttentionTensor.Allocate(TensorType.Float64, s_case.QueryShape);
        Assert.Multiple(() =>
        {
            Assert.That(
                () => s_case.Operator().Forward(inputs, new(allHeads, rows)),
                Throws.ArgumentException.With.Message.Contains("Output has shape [1, 4, 3, 4]").And.Message.Contains("[1, 2, 3, 4]"));
            Assert.That(
                () => s_case.Operator().Forward(inputs, new(output, output.Slice(3, 0, 1))),
                Throws.ArgumentException.With.Message.Contains("LogSumExp has shape [1, 2, 3, 1]").And.Message.Contains("[1, 4, 3, 1]"));
            Assert.That(
                () => s_case.Operator().Backward(inputs, allHeads),
                Throws.ArgumentException.With.Message.Contains("outputGradient has shape [1, 4, 3, 4]"));
        });
    }

    private static TestCaseData<GroupedDifferentialOptions, string, string> Bad(
        GroupedDifferentialOptions options, string received, string allowed) => new(options, received, allowed);

    private static void AssertRefused(
        GroupedDifferentialCase test,
        AttentionDevice device,
        GroupedDifferentialInputs inputs,
        string name,
        string received,
        string allowed)
    {
        Assert.That(
            () => test.Operator(device).Forward(inputs),
            Throws.TypeOf<ArgumentException>()
                .With.Property(nameof(ArgumentException.ParamName)).EqualTo(name)
                .And.Message.Contains(received).And.Message.Contains(allowed));
    }
}
