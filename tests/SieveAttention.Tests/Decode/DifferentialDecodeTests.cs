using NUnit.Framework;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class DifferentialDecodeTests
{
    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) => Check(
        device, paged, new DecodeFeed { Rows = rows }, new DifferentialOptions { Lambda = [0.3, 0, 0.8, -0.2] }, vectors: null);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void With_lambda_vectors_norm_gate_and_window(AttentionDevice device, bool paged, int rows)
    {
        DecodeFeed feed = new() { Rows = rows, Spread = 0.7 };
        DifferentialOptions options = new()
        {
            LambdaInit = 0.2,
            Mask = new AttentionMask { Window = 20 },
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.8 },
        };
        double[] vectors = Support.Values.Normal(new Random(5), 4 * feed.HeadDim).Select(x => 0.1 * x).ToArray();
        Check(device, paged, feed, options, Support.Values.Tensor(vectors, new TensorShape(1, 1, 4, feed.HeadDim)));
    }

    [Test]
    public void A_cache_with_one_view_is_refused()
    {
        DecodeFeed feed = new();
        Assert.That(
            () => new DifferentialAttention(AttentionDevice.Cpu, new DifferentialOptions { Lambda = [0.5] }).Decode(
                new DifferentialDecodeInputs { Query1 = feed.StepQuery(0), Query2 = feed.StepQuery(0, "q2") },
                feed.Cache(paged: false, views: 1)),
            Throws.ArgumentException.With.Message.Contains("The cache has 1 key view(s); this operator needs 2."));
    }

    private static void Check(AttentionDevice device, bool paged, DecodeFeed feed, DifferentialOptions options, AttentionTensor? vectors)
    {
        DifferentialAttention attention = new(device, options);
        feed.Run(
            feed.Cache(paged, views: 2),
            (cache, step) => attention.Decode(
                new DifferentialDecodeInputs
                {
                    Query1 = feed.StepQuery(step),
                    Query2 = feed.StepQuery(step, "q2"),
                    LambdaVectors = vectors,
                    Gate = feed.Step("gate", step, feed.QueryHeads, 1),
                },
                cache).Output,
            sequence => new DifferentialAttention(AttentionDevice.Reference, options).Forward(new DifferentialInputs
            {
                Query1 = feed.Query(sequence),
                Key1 = feed.Key(sequence),
                Query2 = feed.Query(sequence, "q2"),
                Key2 = feed.Key(sequence, "k2"),
                Value = feed.Value(sequence),
                LambdaVectors = vectors,
                Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
            }).Output,
            DecodeCases.Tolerance(device) * (options.Epilogue.Norm == OutputNorm.Rms ? 5 : 1));
    }
}
