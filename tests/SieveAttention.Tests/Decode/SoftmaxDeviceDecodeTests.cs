using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>Decode on a CUDA device: what a step gives is what the rows of a prefill give, in every form of the cache.</summary>
[TestFixture(TensorType.BFloat16, KernelPath.Automatic)]
[TestFixture(TensorType.BFloat16, KernelPath.Generic)]
[TestFixture(TensorType.Float16, KernelPath.Automatic)]
internal sealed class SoftmaxDeviceDecodeTests(TensorType type, KernelPath path) : GpuFixture
{
    private const int PageSize = 64;
    private const int Capacity = 1024;

    private static IEnumerable<DecodeFeed> Feeds => DecodeCases.DeviceFeeds;

    [Test]
    public void Steps_give_the_rows_of_a_prefill([ValueSource(nameof(Feeds))] DecodeFeed feed, [Values] bool paged)
    {
        SoftmaxOptions options = Options(splits: 0);
        DecodeTrial trial = new(feed, type, options);
        trial.AssertWithin(Run(trial, feed, paged, options));
    }

    [Test]
    public void All_head_dims([Values] bool paged, [Values(32, 96, 128, 256)] int headDim)
    {
        RequireDecode(headDim);
        DecodeFeed feed = new() { Prompts = [0, 63, 300], Steps = 3, Rows = 2, HeadDim = headDim, ValueDim = headDim };
        SoftmaxOptions options = Options(splits: 0);
        DecodeTrial trial = new(feed, type, options);
        trial.AssertWithin(Run(trial, feed, paged, options));
    }

    [Test]
    public void Gate_norm_and_row_factors_belong_to_the_new_rows([Values] bool paged)
    {
        SoftmaxOptions options = DecodeCases.GatedOptions with { Kernels = Options(splits: 3).Kernels };
        DecodeFeed feed = DecodeCases.GatedFeed;
        DecodeTrial trial = new(feed, type, options, gated: true);
        trial.AssertWithin(Run(trial, feed, paged, options));
    }

    [Test]
    public void Paged_and_contiguous_caches_give_the_same_bits([Values(1, 4)] int splits)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [0, 63, 300], Steps = 4 });
        SoftmaxOptions options = Options(splits);
        DecodeTrial trial = new(feed, type, options);
        Assert.That(Run(trial, feed, paged: true, options), Is.EqualTo(Run(trial, feed, paged: false, options)));
    }

    [Test]
    public void A_subset_of_the_sequences_and_a_truncated_one_are_decoded_alone()
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [40, 90, 200], Steps = 1 });
        using DeviceKeyValueCache cache = Cache(feed, paged: true);
        AppendPrompts(feed, cache);
        AppendStep(feed, cache, 0);
        int pages = cache.FreePages;
        cache.Truncate(1, 70);
        Assert.That(cache.FreePages, Is.EqualTo(pages), "91 and 70 keys need two pages");
        Assert.That(cache.Length(1), Is.EqualTo(70));
        SoftmaxAttention attention = new(Device, Options(splits: 0));
        using AttentionTensor query = Typed(feed.StepQuery(0).Slice(0, 1, 2)).To(Device);
        using SoftmaxResult result = attention.Decode(new DecodeInputs { Query = query, Sequences = [1, 2] }, cache);
        SoftmaxProblem alone = new(
            new AttentionInputs
            {
                Query = Typed(feed.StepQuery(0).Slice(0, 1, 1)),
                Key = Typed(feed.Key(1).Slice(2, 0, 70)),
                Value = Typed(feed.Value(1).Slice(2, 0, 70)),
            },
            new SoftmaxOptions(),
            null);
        alone.AssertForward(
            DeviceMemory.Download(result.Output.Slice(0, 0, 1)), DeviceMemory.Download(result.LogSumExp.Slice(0, 0, 1)), "sequence 1");
        Assert.That(
            () => attention.Decode(new DecodeInputs { Query = query, Sequences = [2, 0] }, cache),
            Throws.ArgumentException.With.Message.Contains("sequences that follow each other"));
        Assert.That(
            () => attention.Decode(new DecodeInputs { Query = query }, KeyValueCache.Contiguous(cache.Layout, 8)),
            Throws.TypeOf<NotSupportedException>().With.Message.Contains("cache in host memory"));
    }

    [Test]
    public void A_step_with_a_workspace_allocates_nothing_and_repeats_bit_for_bit()
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [1000, 700], Steps = 1 });
        using DeviceKeyValueCache cache = Cache(feed, paged: false);
        AppendPrompts(feed, cache);
        AppendStep(feed, cache, 0);
        using AttentionStream stream = Device.CreateStream();
        AttentionStream.FromPointer(Device, 0).Synchronize();
        using DeviceWorkspace workspace = new(Device);
        using AttentionTensor query = Typed(feed.StepQuery(0)).To(Device);
        using SoftmaxResult into = new(
            AttentionTensor.Allocate(type, query.Shape, Device),
            AttentionTensor.Allocate(TensorType.Float32, query.Shape with { Channels = 1 }, Device));
        SoftmaxAttention attention = new(Device, Options(splits: 4));
        byte[]? first = null;
        ulong bytes = 0;
        for (int launch = 0; launch < 50; launch++)
        {
            DeviceMemory.Poison(into.Output, stream);
            attention.Decode(new DecodeInputs { Query = query }, cache, into, stream, workspace);
            byte[] bits = DeviceMemory.Bits(into.Output, stream);
            first ??= bits;
            bytes = bytes == 0 ? workspace.Bytes : bytes;
            Assert.That(bits.AsSpan().SequenceEqual(first), $"launch {launch} differs");
            Assert.That(workspace.Bytes, Is.EqualTo(bytes));
        }
    }

    private SoftmaxOptions Options(int splits) => new() { Kernels = new KernelOptions { Path = path, DecodeSplits = splits } };

    private static DecodeFeed Sized(DecodeFeed feed) => feed with { HeadDim = 64, ValueDim = 64 };

    [SetUp]
    public void RequireDecode() => RequireDecode(64);

    private void RequireDecode(int headDim)
    {
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Decode, path, type, headDim, headDim, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    private AttentionTensor Typed(AttentionTensor tensor) => SoftmaxProblem.Rounded(tensor, type);

    private DeviceKeyValueCache Cache(DecodeFeed feed, bool paged)
    {
        KeyValueCacheLayout layout = new(feed.Prompts.Length, feed.KeyHeads, feed.HeadDim, feed.ValueDim) { Type = type };
        return paged
            ? DeviceKeyValueCache.Paged(Device, layout, PageSize, feed.Prompts.Length * (Capacity / PageSize), Capacity)
            : DeviceKeyValueCache.Contiguous(Device, layout, Capacity);
    }

    /// <summary>Prompts come from host memory, steps from device memory in sequence-first order.</summary>
    private void AppendPrompts(DecodeFeed feed, DeviceKeyValueCache cache)
    {
        for (int s = 0; s < feed.Prompts.Length; s++)
        {
            if (feed.Prompts[s] > 0)
            {
                cache.Append(s, Typed(feed.Key(s).Slice(2, 0, feed.Prompts[s])), Typed(feed.Value(s).Slice(2, 0, feed.Prompts[s])));
            }
        }
    }

    private void AppendStep(DecodeFeed feed, DeviceKeyValueCache cache, int step) => AppendStep(
        cache, Typed(feed.Step("k", step, feed.KeyHeads, feed.HeadDim)), Typed(feed.Step("v", step, feed.KeyHeads, feed.ValueDim)));

    private void AppendStep(DeviceKeyValueCache cache, AttentionTensor key, AttentionTensor value)
    {
        using DeviceCopies copies = new(Device, sequenceFirst: true);
        cache.Append(copies.Of(key), copies.Of(value));
    }

    private (double[] Output, double[] LogSumExp)[] Run(DecodeTrial trial, DecodeFeed feed, bool paged, SoftmaxOptions options)
    {
        SoftmaxAttention attention = new(Device, options);
        using DeviceKeyValueCache cache = Cache(feed, paged);
        return trial.Run(
            (sequence, key, value) => cache.Append(sequence, key, value),
            (key, value) => AppendStep(cache, key, value),
            inputs =>
            {
                using DeviceCopies copies = new(Device);
                using SoftmaxResult result = attention.Decode(
                    inputs with { Query = copies.Of(inputs.Query), Gate = copies.OfOptional(inputs.Gate) }, cache);
                return new SoftmaxResult(result.Output.ToHost(), result.LogSumExp.ToHost());
            });
    }
}
