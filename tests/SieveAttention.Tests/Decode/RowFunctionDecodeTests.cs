using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class RowFunctionDecodeTests
{
    private static readonly RowWeights[] s_weights =
    [
        new SoftpickWeights(),
        new SigmoidWeights(),
        new SigmoidWeights { Bias = [-1, 0.5, -2, 0] },
        new ElasticSoftmaxWeights { Tau = [-1, -0.5, 0.2, -2] },
        new AffineWeights(),
        new AlphaReluWeights { Alpha = 1.5, Tau = [0.1, 0, -0.2, 0.3] },
    ];

    private static readonly ScoreOptions s_scores = new()
    {
        Scale = 0.4, RowFactor = RowFactor.Ssmax(0.5, 0.2, -0.1, 0.7), AlibiSlopes = [0, 0.1, 0.5, -0.01],
    };

    private static IEnumerable<TestCaseData> Cases => s_weights.SelectMany((weights, n) => DecodeCases.All.Select(test =>
        new TestCaseData([weights, .. test.Arguments]).SetArgDisplayNames(
            $"{n} {weights.GetType().Name}", ((AttentionDevice)test.Arguments[0]!).Name, $"paged {test.Arguments[1]}", $"{test.Arguments[2]} rows")));

    [TestCaseSource(nameof(Cases))]
    public void A_decode_step_gives_the_rows_of_the_prefill(RowWeights weights, AttentionDevice device, bool paged, int rows)
    {
        DecodeFeed feed = new() { Rows = rows };
        RowFunctionOptions options = new()
        {
            Weights = weights,
            Scores = s_scores,
            Mask = new AttentionMask { Window = 15 },
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-3 },
        };
        bool affine = weights is AffineWeights;
        AttentionTensor? bias = weights is ElasticSoftmaxWeights
            ? Values.Tensor(Values.Normal(new Random(3), feed.QueryHeads * 9), new TensorShape(1, feed.QueryHeads, 1, 9))
            : null;
        RowFunctionAttention attention = new(device, options);
        feed.Run(
            feed.Cache(paged, views: 1),
            (cache, step) => attention.Decode(
                new RowFunctionDecodeInputs
                {
                    Attention = new DecodeInputs { Query = feed.StepQuery(step), Gate = feed.Step("gate", step, feed.QueryHeads, 1) },
                    AffineFactor = affine ? feed.Step("a", step, feed.QueryHeads, 1) : null,
                    AffineShift = affine ? feed.Step("b", step, feed.QueryHeads, 1) : null,
                    DistanceBias = bias,
                },
                cache).Output,
            sequence => new RowFunctionAttention(AttentionDevice.Reference, options).Forward(new RowFunctionInputs
            {
                Attention = new AttentionInputs
                {
                    Query = feed.Query(sequence),
                    Key = feed.Key(sequence),
                    Value = feed.Value(sequence),
                    Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
                },
                AffineFactor = affine ? feed.Whole("a", sequence, feed.QueryHeads, 1) : null,
                AffineShift = affine ? feed.Whole("b", sequence, feed.QueryHeads, 1) : null,
                DistanceBias = bias,
            }).Output,
            device.Kind == AttentionDeviceKind.Reference ? 1e-12 : 1e-4); // small rows are magnified by the norm
    }

    [Test]
    public void Only_affine_weights_take_a_factor()
    {
        DecodeFeed feed = new() { Prompts = [3], Steps = 1 };
        KeyValueCache cache = feed.Cache(paged: false, views: 1);
        feed.AppendPrompts(cache);
        feed.AppendStep(cache, 0);
        RowFunctionDecodeInputs inputs = new() { Attention = new DecodeInputs { Query = feed.StepQuery(0) } };
        AttentionTensor factor = feed.Step("a", 0, feed.QueryHeads, 1);
        Assert.That(
            () => Attention(new SoftpickWeights()).Decode(inputs with { AffineFactor = factor }, cache),
            Throws.ArgumentException.With.Message.Contains("AffineFactor is given and Weights are SoftpickWeights"));
        Assert.That(
            () => Attention(new SigmoidWeights()).Decode(inputs with { AffineShift = factor }, cache),
            Throws.ArgumentException.With.Message.Contains("AffineShift is given and Weights are SigmoidWeights"));
        Assert.That(
            () => Attention(new AffineWeights()).Decode(inputs, cache),
            Throws.ArgumentException.With.Message.Contains("AffineFactor is absent"));
        Assert.That(
            () => Attention(new ElasticSoftmaxWeights { Tau = [-1, -1] }).Decode(inputs, cache),
            Throws.ArgumentException.With.Message.Contains("Tau"));
    }

    private static RowFunctionAttention Attention(RowWeights weights) =>
        new(AttentionDevice.Cpu, new RowFunctionOptions { Weights = weights });
}
