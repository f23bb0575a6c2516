using NUnit.Framework;
using SieveAttention.Decoding;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>Long sequences, whose keys are computed in pieces on several cores, and sequences of one piece beside them.</summary>
[TestFixture]
internal sealed class PieceDecodeTests
{
    private static readonly DecodeFeed s_feed = new()
    {
        Prompts = [(2 * DecodePlan.PieceLength) + 100, 5, DecodePlan.PieceLength - 1], Steps = 1, Rows = 3, KeyHeads = 1, QueryHeads = 2, HeadDim = 4,
        ValueDim = 3, Spread = 2,
    };

    private static IEnumerable<TestCaseData> Cases =>
        from device in (AttentionDevice[])[AttentionDevice.Reference, AttentionDevice.Cpu]
        from window in (int?[])[null, DecodePlan.PieceLength + 1]
        select new TestCaseData(device, window).SetArgDisplayNames(device.Name, $"window {window}");

    [TestCaseSource(nameof(Cases))]
    public void Softmax(AttentionDevice device, int? window)
    {
        SoftmaxOptions options = new() { Mask = new AttentionMask { Window = window } };
        foreach (bool logSumExp in (bool[])[false, true])
        {
            s_feed.Run(
                s_feed.Cache(paged: true, views: 1),
                (cache, step) => Of(new SoftmaxAttention(device, options).Decode(new DecodeInputs { Query = s_feed.StepQuery(step) }, cache)),
                sequence => Of(new SoftmaxAttention(AttentionDevice.Reference, options).Forward(Inputs(sequence))),
                DecodeCases.Tolerance(device));

            AttentionTensor Of(SoftmaxResult result) => logSumExp ? result.LogSumExp! : result.Output;
        }
    }

    [TestCaseSource(nameof(Cases))]
    public void Differential(AttentionDevice device, int? window)
    {
        DifferentialOptions options = new() { Lambda = [0.4], Mask = new AttentionMask { Window = window } };
        s_feed.Run(
            s_feed.Cache(paged: false, views: 2),
            (cache, step) => new DifferentialAttention(device, options).Decode(
                new DifferentialDecodeInputs { Query1 = s_feed.StepQuery(step), Query2 = s_feed.StepQuery(step, "q2") }, cache).Output,
            sequence => new DifferentialAttention(AttentionDevice.Reference, options).Forward(new DifferentialInputs
            {
                Query1 = s_feed.Query(sequence),
                Key1 = s_feed.Key(sequence),
                Query2 = s_feed.Query(sequence, "q2"),
                Key2 = s_feed.Key(sequence, "k2"),
                Value = s_feed.Value(sequence),
            }).Output,
            DecodeCases.Tolerance(device));
    }

    [TestCaseSource(nameof(Cases))]
    public void Threshold_differential(AttentionDevice device, int? window)
    {
        ThresholdDifferentialOptions options = new() { Beta = 0.4, Lambda = 0.4, Mask = new AttentionMask { Window = window } };
        foreach (bool survivors in (bool[])[false, true])
        {
            // Cosines at the threshold within float32 rounding are improbable among these keys; the counts are compared exactly.
            s_feed.Run(
                s_feed.Cache(paged: false, views: 2),
                (cache, step) => Of(new ThresholdDifferentialAttention(device, options).Decode(
                    new ThresholdDifferentialDecodeInputs { Query1 = s_feed.StepQuery(step), Query2 = s_feed.StepQuery(step, "q2") },
                    cache)),
                sequence => Of(new ThresholdDifferentialAttention(AttentionDevice.Reference, options).Forward(
                    new ThresholdDifferentialInputs
                    {
                        Query1 = s_feed.Query(sequence),
                        Key1 = s_feed.Key(sequence),
                        Query2 = s_feed.Query(sequence, "q2"),
                        Key2 = s_feed.Key(sequence, "k2"),
                        Value = s_feed.Value(sequence),
                    })),
                survivors ? 0 : DecodeCases.Tolerance(device));

            AttentionTensor Of(ThresholdDifferentialResult result) => survivors ? AsNumbers(result.Survivors1!) : result.Output;
        }
    }

    [Test]
    public void Pieces_cover_the_visible_keys_once()
    {
        KeyValueCache cache = s_feed.Cache(paged: true, views: 1);
        s_feed.AppendPrompts(cache);
        s_feed.AppendStep(cache, 0);
        DecodePlan plan = new DecodeInputs { Query = s_feed.StepQuery(0) }.Plan(
            AttentionDevice.Cpu, cache, new AttentionMask { Window = 3000 }, new ScoreOptions(), new OutputEpilogue());
        int[][] seen = [.. Enumerable.Range(0, 3).Select(sequence => new int[cache.Length(sequence)])];
        plan.ForEachPiece(AttentionDevice.Cpu, (entry, _, piece) =>
        {
            for (int key = piece.Keys.First; key < piece.Keys.End; key++)
            {
                Interlocked.Increment(ref seen[entry][key]);
            }
        });
        for (int entry = 0; entry < 3; entry++)
        {
            KeyRange visible = plan.Visible(entry);
            Assert.That(
                seen[entry],
                Is.EqualTo(Enumerable.Range(0, cache.Length(entry)).Select(key => key >= visible.First && key < visible.End ? 1 : 0)));
        }
    }

    private static AttentionInputs Inputs(int sequence) => new()
    {
        Query = s_feed.Query(sequence), Key = s_feed.Key(sequence), Value = s_feed.Value(sequence),
    };

    private static AttentionTensor AsNumbers(AttentionTensor counts) =>
        Values.Tensor(Array.ConvertAll(counts.AsSpan<int>().ToArray(), n => (double)n), counts.Shape);
}
