using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// Decode of threshold differential attention on a CUDA device: what a step gives is what the rows of a prefill give, in every form of the
/// cache; screens and pages change no bit.
/// </summary>
[TestFixture(TensorType.BFloat16)]
[TestFixture(TensorType.Float16)]
internal sealed class ThresholdDeviceDecodeTests(TensorType type) : GpuFixture
{
    private const int PageSize = 48;
    private const int Capacity = 960;

    private static IEnumerable<DecodeFeed> Feeds => DecodeCases.DeviceFeeds;

    [SetUp]
    public void RequireDecode()
    {
        if (!Device.Supports(AttentionOperation.ThresholdDifferential, AttentionDirection.Decode, type, 64, 64, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    [Test]
    public void Steps_give_the_rows_of_a_prefill(
        [ValueSource(nameof(Feeds))] DecodeFeed feed, [Values] bool paged, [Values] KeyScreen screen)
    {
        ThresholdDecodeTrial trial = new(feed, type, DecodeCases.ThresholdOptions);
        Assert.That(trial.Violations(Run(trial, feed, paged, screen, DecodeCases.ThresholdOptions)), Is.Empty);
    }

    [Test]
    public void Other_sizes([Values] KeyScreen screen, [Values(32, 96, 128)] int headDim, [Values(32, 128)] int valueDim)
    {
        DecodeFeed feed = new() { Prompts = [0, 63, 300], Steps = 3, Rows = 2, HeadDim = headDim, ValueDim = valueDim };
        ThresholdDecodeTrial trial = new(feed, type, DecodeCases.ThresholdOptions);
        Assert.That(trial.Violations(Run(trial, feed, paged: true, screen, DecodeCases.ThresholdOptions)), Is.Empty);
    }

    [Test]
    public void Gate_norm_and_window_belong_to_the_new_rows([Values] bool paged, [Values] KeyScreen screen)
    {
        ThresholdDifferentialOptions options = Split(DecodeCases.GatedThresholdOptions, 3);
        ThresholdDecodeTrial trial = new(DecodeCases.GatedFeed, type, options, gated: true);
        Assert.That(trial.Violations(Run(trial, DecodeCases.GatedFeed, paged, screen, options)), Is.Empty);
    }

    [Test]
    public void Screens_and_pages_give_the_same_bits_and_survivors([Values(1, 4)] int splits, [Values(0.35, 0.9)] double beta)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [0, 63, 700], Steps = 4, Rows = 2 });
        ThresholdDifferentialOptions options = Split(DecodeCases.ThresholdOptions with { Beta = beta }, splits);
        ThresholdDecodeTrial trial = new(feed, type, options);
        DecodedThreshold[] expected = Run(trial, feed, paged: false, KeyScreen.None, options);
        Assert.That(expected.Sum(one => one.Survivors1.Sum()), Is.Positive);
        foreach (KeyScreen screen in Enum.GetValues<KeyScreen>())
        {
            foreach (bool paged in (bool[])[false, true])
            {
                DecodedThreshold[] actual = Run(trial, feed, paged, screen, options);
                for (int s = 0; s < expected.Length; s++)
                {
                    string what = $"{screen}, {(paged ? "paged" : "contiguous")}, sequence {s}";
                    Assert.That(actual[s].Output, Is.EqualTo(expected[s].Output), what);
                    Assert.That(actual[s].Survivors1, Is.EqualTo(expected[s].Survivors1), what);
                    Assert.That(actual[s].Survivors2, Is.EqualTo(expected[s].Survivors2), what);
                }
            }
        }
    }

    [Test]
    public void One_view_is_the_operator_with_lambda_zero([Values] KeyScreen screen)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [200, 90], Steps = 1 });
        ThresholdDifferentialAttention attention = new(Device, Split(new ThresholdDifferentialOptions { Beta = 0.4 }, 2));
        using DeviceThresholdCache one = Cache(feed, paged: false, screen, views: 1);
        using DeviceThresholdCache two = Cache(feed, paged: false, screen);
        AppendPrompts(feed, one);
        AppendPrompts(feed, two);
        using AttentionTensor query1 = Typed(feed.StepQuery(0)).To(Device);
        using AttentionTensor query2 = Typed(feed.StepQuery(0, "q2")).To(Device);
        using ThresholdDifferentialResult single = attention.Decode(new ThresholdDifferentialDecodeInputs { Query1 = query1 }, one);
        using ThresholdDifferentialResult both = attention.Decode(
            new ThresholdDifferentialDecodeInputs { Query1 = query1, Query2 = query2 }, two);
        Assert.That(DeviceMemory.Bits(single.Output), Is.EqualTo(DeviceMemory.Bits(both.Output)));
        Assert.That(DeviceMemory.Bits(single.Survivors1), Is.EqualTo(DeviceMemory.Bits(both.Survivors1)));
        Assert.That(single.Survivors2, Is.Null);
    }

    [Test]
    public void A_subset_of_the_sequences_and_a_truncated_one_are_decoded_alone([Values] KeyScreen screen)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [40, 90, 200], Steps = 1 });
        ThresholdDifferentialAttention attention = new(Device, Split(DecodeCases.ThresholdOptions, 2));
        using DeviceThresholdCache cache = Cache(feed, paged: true, screen);
        AppendPrompts(feed, cache);
        cache.Truncate(1, 33);
        Assert.That((cache.Length(1), cache.PageTable(1).Count), Is.EqualTo((33, 1)));
        cache.Append(1, Part("k", 33, 57), Part("v", 33, 57), Part("k2", 33, 57));
        AppendStep(feed, cache, 0);
        using AttentionTensor query1 = Typed(feed.StepQuery(0).Slice(0, 1, 2)).To(Device);
        using AttentionTensor query2 = Typed(feed.StepQuery(0, "q2").Slice(0, 1, 2)).To(Device);
        ThresholdDifferentialDecodeInputs inputs = new() { Query1 = query1, Query2 = query2, Sequences = [1, 2] };
        using ThresholdDifferentialResult result = attention.Decode(inputs, cache);

        using DeviceThresholdCache fresh = Cache(feed, paged: false, screen);
        AppendPrompts(feed, fresh);
        AppendStep(feed, fresh, 0);
        using ThresholdDifferentialResult expected = attention.Decode(inputs, fresh);
        Assert.That(DeviceMemory.Bits(result.Output), Is.EqualTo(DeviceMemory.Bits(expected.Output)));
        Assert.That(
            () => attention.Decode(inputs with { Sequences = [2, 0] }, cache),
            Throws.ArgumentException.With.Message.Contains("sequences that follow each other"));

        AttentionTensor Part(string name, int from, int count) => Typed(feed.Whole(name, 1, feed.KeyHeads, 64).Slice(2, from, count));
    }

    [Test]
    public void A_step_with_a_workspace_allocates_nothing_and_repeats_bit_for_bit([Values] KeyScreen screen)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [900, 700], Steps = 1 });
        using DeviceThresholdCache cache = Cache(feed, paged: false, screen);
        AppendPrompts(feed, cache);
        AppendStep(feed, cache, 0);
        using AttentionStream stream = Device.CreateStream();
        using DeviceWorkspace workspace = new(Device);
        using DeviceCopies copies = new(Device);
        ThresholdDifferentialDecodeInputs inputs = Queries(feed, copies);
        WaitForCopies();
        using ThresholdDifferentialResult into = Into(inputs.Query1.Shape, type);
        ThresholdDifferentialAttention attention = new(Device, Split(DecodeCases.ThresholdOptions, 4));
        byte[]? first = null;
        ulong bytes = 0;
        for (int launch = 0; launch < 50; launch++)
        {
            DeviceMemory.Poison(into.Output, stream);
            attention.Decode(inputs, cache, into, stream, workspace);
            byte[] bits = DeviceMemory.Bits(into.Output, stream);
            first ??= bits;
            bytes = bytes == 0 ? workspace.Bytes : bytes;
            Assert.That(bits.AsSpan().SequenceEqual(first), $"launch {launch} differs");
            Assert.That(workspace.Bytes, Is.EqualTo(bytes));
        }
    }

    [Test]
    public void A_float32_output_rounds_to_the_16_bit_output()
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [300], Steps = 1 });
        using DeviceThresholdCache cache = Cache(feed, paged: true, KeyScreen.FourBits);
        AppendPrompts(feed, cache);
        AppendStep(feed, cache, 0);
        using DeviceCopies copies = new(Device);
        ThresholdDifferentialDecodeInputs inputs = Queries(feed, copies);
        ThresholdDifferentialAttention attention = new(Device, DecodeCases.ThresholdOptions);
        using ThresholdDifferentialResult narrow = attention.Decode(inputs, cache);
        using ThresholdDifferentialResult wide = Into(inputs.Query1.Shape, TensorType.Float32);
        attention.Decode(inputs, cache, wide);
        Assert.That(
            Array.ConvertAll(DeviceMemory.Download(wide.Output), value => Values.Round(value, type)),
            Is.EqualTo(DeviceMemory.Download(narrow.Output)));
    }

    [Test]
    public void Captured_steps_replay_while_the_cache_grows_and_append_by_themselves([Values] bool paged, [Values] KeyScreen screen)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [31, 400], Steps = 40 });
        using DeviceThresholdCache cache = Cache(feed, paged, screen);
        using DeviceThresholdCache other = Cache(feed, paged, screen);
        using AttentionStream stream = Device.CreateStream();
        using DeviceWorkspace workspace = new(Device);
        ThresholdDifferentialAttention attention = new(Device, Split(DecodeCases.ThresholdOptions, 2));
        AppendPrompts(feed, cache);
        AppendPrompts(feed, other);
        WaitForCopies();

        // Keys, values and queries of a step have their places, which the graph reads; lengths and pages are the cache's.
        using DeviceCopies copies = new(Device);
        AttentionTensor[] places = Step(0, copies);
        WaitForCopies();
        ThresholdDifferentialDecodeInputs inputs = new() { Query1 = places[3], Query2 = places[4] };
        using ThresholdDifferentialResult into = Into(places[3].Shape, type);
        cache.Append(places[0], places[1], places[2], stream);
        attention.Decode(inputs, cache, into, stream, workspace);
        CachedThresholdKeys view = cache.View();
        using CapturedGraph graph = CapturedGraph.Of(stream, () =>
        {
            view.Append(places[0], places[1], places[2], stream);
            attention.Decode(inputs, view, into, stream, workspace);
        });
        AppendStep(feed, other, 0, stream);
        for (int step = 1; step < feed.Steps; step++)
        {
            // Room and lengths of the new keys, by keys that the graph then replaces.
            cache.Append(places[0], places[1], places[2], stream);
            using (DeviceCopies hosts = new(Device))
            {
                AttentionTensor[] next = Step(step, hosts);
                WaitForCopies();
                foreach ((AttentionTensor from, AttentionTensor to) in next.Zip(places))
                {
                    from.CopyTo(to, stream);
                }

                stream.Synchronize();
            }

            DeviceMemory.Poison(into.Output, stream);
            graph.Replay();
            byte[] replayed = DeviceMemory.Bits(into.Output, stream);
            AppendStep(feed, other, step, stream);
            using ThresholdDifferentialResult expected = Into(places[3].Shape, type);
            attention.Decode(inputs, other, expected, stream, workspace);
            Assert.That(replayed.AsSpan().SequenceEqual(DeviceMemory.Bits(expected.Output, stream)), $"step {step}");
        }

        view.DisposeViews();

        AttentionTensor[] Step(int step, DeviceCopies owner) =>
        [
            owner.Of(Typed(feed.Step("k", step, feed.KeyHeads, 64))),
            owner.Of(Typed(feed.Step("v", step, feed.KeyHeads, 64))),
            owner.Of(Typed(feed.Step("k2", step, feed.KeyHeads, 64))),
            owner.Of(Typed(feed.StepQuery(step))),
            owner.Of(Typed(feed.StepQuery(step, "q2"))),
        ];
    }

    [Test]
    public void Keys_that_are_there_already_are_described_as_appended_ones_are([Values(KeyScreen.EightBits, KeyScreen.FourBits)] KeyScreen screen)
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [130, 77], Steps = 1 });
        using DeviceThresholdCache cache = Cache(feed, paged: true, screen);
        AppendPrompts(feed, cache);
        CachedThresholdKeys view = cache.View();
        byte[] images = DeviceMemory.Bits(view.Images2!);
        byte[] norms = DeviceMemory.Bits(view.InverseNorms1);
        view.Describe(130);
        Assert.That(DeviceMemory.Bits(view.Images2!), Is.EqualTo(images));
        Assert.That(DeviceMemory.Bits(view.InverseNorms1), Is.EqualTo(norms));
        view.DisposeViews();
    }

    [Test]
    public void Wrong_calls_are_refused_and_nothing_is_written()
    {
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [100, 50], Steps = 1 });
        using DeviceThresholdCache cache = Cache(feed, paged: true, KeyScreen.FourBits);
        AppendPrompts(feed, cache);
        using DeviceCopies copies = new(Device);
        ThresholdDifferentialDecodeInputs inputs = Queries(feed, copies);
        ThresholdDifferentialAttention attention = new(Device, DecodeCases.ThresholdOptions);
        AttentionTensor many = copies.Of(AttentionTensor.Allocate(type, new TensorShape(2, 4, 33, 64)));
        AttentionTensor key = Typed(feed.Step("k", 0, feed.KeyHeads, 64));
        AttentionTensor tooLong = AttentionTensor.Allocate(type, new TensorShape(1, 2, 900, 64));
        CachedThresholdKeys view = cache.View();
        Assert.Multiple(() =>
        {
            Assert.That(
                () => attention.Decode(inputs with { Query2 = null }, cache),
                Throws.ArgumentException.With.Message.Contains("Query2 is absent and the cache has 2 key view(s)"));
            Assert.That(
                () => attention.Decode(new ThresholdDifferentialDecodeInputs { Query1 = many, Query2 = many }, cache),
                Throws.ArgumentException.With.Message.Contains("33 rows of 2 heads a key head; allowed: a product of at most 64"));
            Assert.That(
                () => new ThresholdDifferentialAttention(Device, new ThresholdDifferentialOptions { HeadBeta = [1, 1, 1, 1] }).Decode(inputs, cache),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("HeadBeta"));
            Assert.That(
                () => attention.Decode(inputs, view with { Images1 = null }, Into(inputs.Query1.Shape, type)),
                Throws.ArgumentException.With.Message.Contains("Images1 is absent and Screen is FourBits"));
            Assert.That(
                () => attention.Decode(inputs, view with { Screen = KeyScreen.EightBits }, Into(inputs.Query1.Shape, type)),
                Throws.ArgumentException.With.Message.Contains("Images1 has shape"));
            Assert.That(
                () => attention.Decode(inputs, KeyValueCache.Contiguous(cache.Layout, 16)),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("cache in host memory"));
            Assert.That(
                () => cache.Append(key, key),
                Throws.ArgumentException.With.Message.Contains("key2 is absent and the cache has 2 view(s)"));
            Assert.That(
                () => cache.Append(0, tooLong, tooLong, tooLong),
                Throws.InvalidOperationException.With.Message.Contains("900 more do not fit"));
            Assert.That(
                () => DeviceThresholdCache.Paged(Device, cache.Layout, pageSize: 24, pages: 4),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("pageSize is 24; allowed: multiples of 16"));
            Assert.That(
                () => DeviceThresholdCache.Contiguous(Device, cache.Layout with { HeadDim = 72 }, 64),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("head_dim 72"));
            Assert.That((cache.Length(0), cache.Length(1)), Is.EqualTo((100, 50)));
        });
        view.DisposeViews();
    }

    private static ThresholdDifferentialOptions Split(ThresholdDifferentialOptions options, int splits) =>
        options with { Kernels = new KernelOptions { DecodeSplits = splits } };

    private static DecodeFeed Sized(DecodeFeed feed) => feed with { HeadDim = 64, ValueDim = 64 };

    private AttentionTensor Typed(AttentionTensor tensor) => SoftmaxProblem.Rounded(tensor, type);

    private ThresholdDifferentialResult Into(TensorShape query, TensorType output) => new(
        AttentionTensor.Allocate(output, query, Device),
        AttentionTensor.Allocate(TensorType.Int32, query with { Channels = 1 }, Device),
        AttentionTensor.Allocate(TensorType.Int32, query with { Channels = 1 }, Device));

    private ThresholdDifferentialDecodeInputs Queries(DecodeFeed feed, DeviceCopies copies) => new()
    {
        Query1 = copies.Of(Typed(feed.StepQuery(0))), Query2 = copies.Of(Typed(feed.StepQuery(0, "q2"))),
    };

    /// <summary>What was copied on the legacy default stream is there for every stream.</summary>
    private void WaitForCopies() => AttentionStream.FromPointer(Device, 0).Synchronize();

    private DeviceThresholdCache Cache(DecodeFeed feed, bool paged, KeyScreen screen, int views = 2)
    {
        KeyValueCacheLayout layout = new(feed.Prompts.Length, feed.KeyHeads, feed.HeadDim, feed.ValueDim) { Type = type, Views = views };
        return paged
            ? DeviceThresholdCache.Paged(Device, layout, PageSize, feed.Prompts.Length * (Capacity / PageSize), Capacity, screen)
            : DeviceThresholdCache.Contiguous(Device, layout, Capacity, screen);
    }

    /// <summary>Prompts come from host memory, steps from device memory in sequence-first order.</summary>
    private void AppendPrompts(DecodeFeed feed, DeviceThresholdCache cache)
    {
        for (int s = 0; s < feed.Prompts.Length; s++)
        {
            if (feed.Prompts[s] > 0)
            {
                cache.Append(
                    s, Prompt(feed.Key(s), s), Prompt(feed.Value(s), s), cache.Layout.Views == 2 ? Prompt(feed.Key(s, "k2"), s) : null);
            }
        }

        AttentionTensor Prompt(AttentionTensor whole, int s) => Typed(whole.Slice(2, 0, feed.Prompts[s]));
    }

    private void AppendStep(DecodeFeed feed, DeviceThresholdCache cache, int step, AttentionStream? stream = null) => AppendStep(
        cache,
        Typed(feed.Step("k", step, feed.KeyHeads, feed.HeadDim)),
        Typed(feed.Step("v", step, feed.KeyHeads, feed.ValueDim)),
        Typed(feed.Step("k2", step, feed.KeyHeads, feed.HeadDim)),
        stream);

    private void AppendStep(
        DeviceThresholdCache cache, AttentionTensor key1, AttentionTensor value, AttentionTensor key2, AttentionStream? stream = null)
    {
        using DeviceCopies copies = new(Device, sequenceFirst: true);
        (AttentionTensor keys1, AttentionTensor values, AttentionTensor keys2) = (copies.Of(key1), copies.Of(value), copies.Of(key2));
        WaitForCopies();
        cache.Append(keys1, values, keys2, stream);
    }

    private DecodedThreshold[] Run(
        ThresholdDecodeTrial trial, DecodeFeed feed, bool paged, KeyScreen screen, ThresholdDifferentialOptions options)
    {
        ThresholdDifferentialAttention attention = new(Device, options);
        using DeviceThresholdCache cache = Cache(feed, paged, screen);
        return trial.Run(
            (sequence, key1, value, key2) => cache.Append(sequence, key1, value, key2),
            (key1, value, key2) => AppendStep(cache, key1, value, key2),
            inputs =>
            {
                using DeviceCopies copies = new(Device);
                using ThresholdDifferentialResult result = attention.Decode(
                    inputs with
                    {
                        Query1 = copies.Of(inputs.Query1), Query2 = copies.Of(inputs.Query2!), Gate = copies.OfOptional(inputs.Gate),
                    },
                    cache);
                return new ThresholdDifferentialResult(
                    result.Output.ToHost(), result.Survivors1.ToHost(), result.Survivors2!.ToHost());
            });
    }
}
