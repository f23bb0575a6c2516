using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class SparseSparseDecodeTests
{
    private static readonly SparseSparseOptions s_exact = new() { BlockSize = 4, BlockCount = 3, Stream = SparseSparseMode.Both };

    private static readonly SparseSparseOptions s_released = s_exact with { BlockCount = 4, Selection = BlockSelectionRule.Released };

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void The_sparse_stream_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, rows, s_exact, result => result.SparseOutput!);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void The_released_selection_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, rows, s_released, result => result.SparseOutput!);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void The_full_stream_gives_the_rows_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, rows, s_exact, result => result.FullOutput!);

    [TestCaseSource(typeof(DecodeCases), nameof(DecodeCases.All))]
    public void Logarithms_of_the_sparse_stream_are_those_of_the_prefill(AttentionDevice device, bool paged, int rows) =>
        Check(device, paged, rows, s_exact, result => result.SparseLogSumExp!);

    [TestCase(BlockSelectionRule.Exact)]
    [TestCase(BlockSelectionRule.Released)]
    public void The_chosen_blocks_are_those_of_the_prefill(BlockSelectionRule rule)
    {
        foreach (AttentionDevice device in (AttentionDevice[])[AttentionDevice.Reference, AttentionDevice.Cpu])
        {
            SparseSparseOptions options = rule == BlockSelectionRule.Exact ? s_exact : s_released;
            options = options with { Stream = SparseSparseMode.Sparse };
            Check(device, paged: true, 2, options, result => Counts(result.BlockIndices!), tolerance: 0);
        }
    }

    [Test]
    public void A_truncated_block_is_pooled_again()
    {
        DecodeFeed feed = new() { Prompts = [32], Steps = 8 };
        SparseSparseAttention attention = new(AttentionDevice.Reference, s_exact with { Stream = SparseSparseMode.Sparse });
        KeyValueCache cache = feed.Cache(paged: true, views: 1);
        feed.AppendPrompts(cache);
        attention.Decode(new DecodeInputs { Query = feed.StepQuery(0) }, cache).Dispose();
        cache.Truncate(0, 22);
        cache.Append(0, feed.Key(0).Slice(2, 0, 11), feed.Value(0).Slice(2, 0, 11));
        KeyValueCache fresh = feed.Cache(paged: false, views: 1);
        fresh.Append(0, feed.Key(0).Slice(2, 0, 22), feed.Value(0).Slice(2, 0, 22));
        fresh.Append(0, feed.Key(0).Slice(2, 0, 11), feed.Value(0).Slice(2, 0, 11));
        DecodeInputs inputs = new() { Query = feed.StepQuery(0) };
        Assert.That(
            Values.Doubles(attention.Decode(inputs, cache).SparseOutput!),
            Is.EqualTo(Values.Doubles(attention.Decode(inputs, fresh).SparseOutput!)));
    }

    private static void Check(
        AttentionDevice device,
        bool paged,
        int rows,
        SparseSparseOptions options,
        Func<SparseSparseResult, AttentionTensor> choose,
        double? tolerance = null)
    {
        DecodeFeed feed = new() { Rows = rows };
        SparseSparseAttention attention = new(device, options);
        feed.Run(
            feed.Cache(paged, views: 1, TensorType.Float32),
            (cache, step) => choose(attention.Decode(
                new DecodeInputs { Query = feed.StepQuery(step), Gate = feed.Step("gate", step, feed.QueryHeads, 1) }, cache)),
            sequence => choose(new SparseSparseAttention(AttentionDevice.Reference, options).Forward(new SparseSparseInputs
            {
                Query = feed.Query(sequence),
                Key = Rounded(feed.Key(sequence)),
                Value = Rounded(feed.Value(sequence)),
                Gate = feed.Whole("gate", sequence, feed.QueryHeads, 1),
            })),
            tolerance ?? DecodeCases.Tolerance(device));
    }

    private static AttentionTensor Rounded(AttentionTensor tensor) =>
        Values.Tensor(Array.ConvertAll(Values.Doubles(tensor), x => (double)(float)x), tensor.Shape);

    private static AttentionTensor Counts(AttentionTensor counts) =>
        Values.Tensor(Array.ConvertAll(counts.AsSpan<int>().ToArray(), n => (double)n), counts.Shape);
}
