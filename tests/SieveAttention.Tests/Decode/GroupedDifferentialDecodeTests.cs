using NUnit.Framework;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class GroupedDifferentialDecodeTests
{
    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void A_decode_step_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows }, signals: 1);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void With_groups_that_cross_key_heads(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, new DecodeFeed { Rows = rows, QueryHeads = 6, KeyHeads = 3 }, signals: 2);

    [Test]
    public void Heads_that_do_not_form_groups_are_refused()
    {
        DecodeFeed feed = new();
        AttentionTensor logit = feed.Step("logit", 0, feed.QueryHeads, 1);
        GroupedDifferentialOptions options = new() { Signals = 2, Mask = AttentionMask.Full };
        Assert.That(
            () => new GroupedDifferentialAttention(AttentionDevice.Cpu, options).Decode(
                new GroupedDifferentialDecodeInputs { Query = feed.StepQuery(0), LambdaLogit = logit }, feed.Cache(paged: false, views: 1)),
            Throws.ArgumentException.With.Message.Contains("Query has 4 heads and Signals is 2"));
    }

    private static void Check(AttentionDevice device, bool paged, DecodeFeed feed, int signals)
    {
        GroupedDifferentialOptions options = new() { Signals = signals };
        GroupedDifferentialAttention attention = new(device, options);
        int heads = feed.QueryHeads / (signals + 1) * signals;
        feed.Run(
            feed.Cache(paged, views: 1),
            (cache, step) => attention.Decode(
                new GroupedDifferentialDecodeInputs
                {
                    Query = feed.StepQuery(step),
                    LambdaLogit = feed.Step("logit", step, heads, 1),
                    Gate = feed.Step("gate", step, heads, 1),
                },
                cache).Output,
            sequence => new GroupedDifferentialAttention(AttentionDevice.Reference, options).Forward(new GroupedDifferentialInputs
            {
                Query = feed.Query(sequence),
                Key = feed.Key(sequence),
                Value = feed.Value(sequence),
                LambdaLogit = feed.Whole("logit", sequence, heads, 1),
                Gate = feed.Whole("gate", sequence, heads, 1),
            }).Output,
            DecodeCases.Tolerance(device));
    }
}
