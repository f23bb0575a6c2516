using NUnit.Framework;
using NUnit.Framework.Constraints;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Bad input of the operators with one view: the error names what is wrong, the value received and what is allowed.</summary>
internal sealed class OneViewValidationTests
{
    private static readonly OneViewCase s_case = new("validation") { QueryHeads = 4 };

    private static readonly AttentionInputs s_inputs = s_case.Inputs(s_case.Variables());

    private static AttentionTensor Rows => Values.Tensor(new double[20], s_case.RowShape);

    [TestCase(1.0, "Alpha is 1; allowed: a number greater than 1 and at most 2")]
    [TestCase(2.5, "Alpha is 2.5; allowed")]
    [TestCase(double.NaN, "Alpha is NaN; allowed")]
    public void Alpha_is_checked(double alpha, string message)
    {
        Assert.That(() => new EntmaxAttention(AttentionDevice.Reference, new EntmaxOptions { Alpha = [alpha] }), Refused(message));
        Assert.That(
            () => RowFunction(new AlphaReluWeights { Alpha = alpha }),
            Refused(double.IsNaN(alpha) ? "Alpha is NaN" : message));
    }

    [Test]
    public void Values_of_heads_are_counted()
    {
        Assert.That(() => new EntmaxAttention(AttentionDevice.Reference, new EntmaxOptions { Alpha = [] }), Refused("Alpha is empty"));
        Assert.That(
            () => new EntmaxAttention(AttentionDevice.Reference, new EntmaxOptions { Alpha = [1.5, 1.6] }).Forward(s_inputs),
            Refused("Alpha has 2 values; allowed: one, or one for each of the 4 query heads"));
        Assert.That(
            () => RowFunction(new ElasticSoftmaxWeights { Tau = [1, 2, 3] }).Forward(new RowFunctionInputs { Attention = s_inputs }),
            Refused("Tau has 3 values"));
        Assert.That(
            () => Softmax(new ScoreOptions { RowFactor = RowFactor.Ssmax(1, 2) }).Forward(s_inputs),
            Refused("RowFactor of kind Ssmax has 2 values"));
        Assert.That(
            () => Softmax(new ScoreOptions { AlibiSlopes = [1] }).Forward(s_inputs),
            Refused("AlibiSlopes has 1 values; allowed: one for each of the 4 query heads"));
    }

    [Test]
    public void Options_have_to_be_numbers_in_range()
    {
        Assert.That(() => Softmax(new ScoreOptions { Scale = double.NaN }), Refused("Scale is NaN; allowed: a finite number"));
        Assert.That(() => Softmax(new ScoreOptions { AlibiSlopes = [0, double.NaN] }), Refused("AlibiSlopes is NaN"));
        Assert.That(() => SupportBasis(new SupportBasisOptions { Bound = -1 }), Refused("Bound is -1; allowed"));
        Assert.That(() => SupportBasis(new SupportBasisOptions { Bound = 1, Degree = 3 }), Refused("Degree is 3; allowed: 1 to 2"));
        Assert.That(() => SupportBasis(new SupportBasisOptions { Bound = 1, Tile = 0 }), Refused("Tile is 0; allowed: 1 to"));
        Assert.That(() => RowFunction(new SoftpickWeights { Epsilon = 0 }), Refused("Epsilon is 0; allowed"));
        Assert.That(() => RowFunction(new SigmoidWeights { Bias = [double.NaN] }), Refused("Bias is NaN"));
    }

    [Test]
    public void Support_basis_refuses_linear_biases() => Assert.That(
        () => SupportBasis(new SupportBasisOptions { Bound = 1, Scores = new ScoreOptions { AlibiSlopes = [1, 1, 1, 1] } }),
        Refused("AlibiSlopes has 4 values; allowed: none"));

    [Test]
    public void The_tensor_of_row_factors_is_there_exactly_where_it_is_used()
    {
        Assert.That(
            () => Softmax(new ScoreOptions { RowFactor = RowFactor.PerRow }).Forward(s_inputs),
            Refused("RowFactors is absent and RowFactor is PerRow"));
        Assert.That(
            () => Softmax(new ScoreOptions()).Forward(s_inputs with { RowFactors = Rows }),
            Refused("RowFactors is given and RowFactor is None"));
        Assert.That(
            () => Softmax(new ScoreOptions { RowFactor = RowFactor.PerRow }).Forward(s_inputs with { RowFactors = s_inputs.Value }),
            Refused("RowFactors has shape [1, 2, 6, 3]; it has to be [batch, query heads, queries, 1] = [1, 4, 5, 1]"));
    }

    [Test]
    public void The_tensors_of_affine_weights_are_there_exactly_where_they_are_used()
    {
        RowFunctionInputs inputs = new() { Attention = s_inputs };
        Assert.That(
            () => RowFunction(new AffineWeights()).Forward(inputs), Refused("AffineFactor is absent and Weights are AffineWeights"));
        Assert.That(
            () => RowFunction(new SoftpickWeights()).Forward(inputs with { AffineShift = Rows }),
            Refused("AffineShift is given and Weights are SoftpickWeights"));
        Assert.That(
            () => RowFunction(new AffineWeights()).Forward(inputs with { AffineFactor = s_inputs.Query }),
            Refused("AffineFactor has shape [1, 4, 5, 4]"));
    }

    [Test]
    public void Shapes_of_inputs_and_results_are_checked()
    {
        Assert.That(
            () => Softmax(new ScoreOptions()).Forward(s_inputs with { Value = s_inputs.Query }), Refused("Value has shape [1, 4, 5, 4]"));
        Assert.That(
            () => Softmax(new ScoreOptions()).Backward(s_inputs, s_inputs.Value), Refused("outputGradient has shape [1, 2, 6, 3]"));
        AttentionTensor output = AttentionTensor.Allocate(TensorType.Float32, s_case.OutputShape);
        AttentionTensor floats = AttentionTensor.Allocate(TensorType.Float32, s_case.RowShape);
        using SoftmaxResult into = new(output, Values.Tensor(new double[80], s_case.QueryShape));
        Assert.That(() => Softmax(new ScoreOptions()).Forward(s_inputs, into), Refused("LogSumExp has shape [1, 4, 5, 4]"));
        using EntmaxResult entmax = new(output, Rows, floats);
        Assert.That(
            () => new EntmaxAttention(AttentionDevice.Reference).Forward(s_inputs, entmax),
            Refused("Support has elements of type Float32; allowed: Int32"));
    }

    private static ContainsConstraint Refused(string message) =>
        Throws.InstanceOf<ArgumentException>().With.Message.Contains(message);

    private static SoftmaxAttention Softmax(ScoreOptions scores) => new(AttentionDevice.Reference, new SoftmaxOptions { Scores = scores });

    private static SupportBasisAttention SupportBasis(SupportBasisOptions options) => new(AttentionDevice.Reference, options);

    private static RowFunctionAttention RowFunction(RowWeights weights) =>
        new(AttentionDevice.Reference, new RowFunctionOptions { Weights = weights });
}
