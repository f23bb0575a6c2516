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

    private static IEnumerable<DecodeFeed> Feeds =>
    [
        new DecodeFeed { Prompts = [0, 63, 300], Steps = 5 },
        new DecodeFeed { Prompts = [0, 17, 70], Steps = 3, Rows = 3 },
        new DecodeFeed { Prompts = [120, 900], Steps = 3, QueryHeads = 8, KeyHeads = 1 },
        new DecodeFeed { Prompts = [1, 500], Steps = 3, QueryHeads = 2, KeyHeads = 2 },
    ];

    [Test]
    public void Steps_give_the_rows_of_a_prefill(
        [ValueSource(nameof(Feeds))] DecodeFeed feed, [Values] bool paged, [Values(32, 64, 96, 128, 256)] int headDim)
    {
        RequireDecode(headDim);
        feed = Sized(feed, headDim);
        SoftmaxOptions options = Options(splits: 0);
        (SoftmaxProblem[] problems, double[][] rows, double[][] lse) = Run(feed, paged, options, inputs => inputs);
        for (int s = 0; s < feed.Prompts.Length; s++)
        {
            problems[s].AssertForward(rows[s], lse[s], $"{feed}, sequence {s}");
        }
    }

    [Test]
    public void Gate_norm_and_row_factors_belong_to_the_new_rows([Values] bool paged)
    {
        RequireDecode(64);
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [30, 257], Steps = 3, Rows = 2 }, 64);
        SoftmaxOptions options = Options(splits: 3) with
        {
            Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-4, OutputScale = 0.7 },
            Scores = new ScoreOptions { RowFactor = RowFactor.Ssmax(0.4) },
            Mask = new AttentionMask { Window = 100 },
        };
        (SoftmaxProblem[] problems, double[][] rows, double[][] lse) = Run(
            feed, paged, options, inputs => inputs with { Gate = Values.Tensor(Gate(inputs.Query.Shape), inputs.Query.Shape with { Channels = 1 }, TensorType.Float32) });
        for (int s = 0; s < feed.Prompts.Length; s++)
        {
            problems[s].AssertForward(rows[s], lse[s], $"sequence {s}");
        }

        static double[] Gate(TensorShape query) =>
            [.. Enumerable.Range(0, query.Heads * query.Rows).Select(n => Math.Sin(n % query.Rows))];
    }

    [Test]
    public void Paged_and_contiguous_caches_give_the_same_bits([Values(1, 4)] int splits)
    {
        RequireDecode(64);
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [0, 63, 300], Steps = 4 }, 64);
        (_, double[][] contiguous, _) = Run(feed, paged: false, Options(splits), inputs => inputs);
        (_, double[][] paged, _) = Run(feed, paged: true, Options(splits), inputs => inputs);
        Assert.That(paged, Is.EqualTo(contiguous));
    }

    [Test]
    public void A_subset_of_the_sequences_and_a_truncated_one_are_decoded_alone()
    {
        RequireDecode(64);
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [40, 90, 200], Steps = 1 }, 64);
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
        RequireDecode(64);
        DecodeFeed feed = Sized(new DecodeFeed { Prompts = [1000, 700], Steps = 1 }, 64);
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

    private static DecodeFeed Sized(DecodeFeed feed, int headDim) => feed with { HeadDim = headDim, ValueDim = headDim };

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

    private void AppendStep(DecodeFeed feed, DeviceKeyValueCache cache, int step)
    {
        using DeviceCopies copies = new(Device, sequenceFirst: true);
        cache.Append(
            copies.Of(Typed(feed.Step("k", step, feed.KeyHeads, feed.HeadDim))),
            copies.Of(Typed(feed.Step("v", step, feed.KeyHeads, feed.ValueDim))));
    }

    /// <summary>
    /// Decodes all steps. Of each sequence: the problem whose queries are the rows of the steps, and what decode gave for these rows.
    /// </summary>
    private (SoftmaxProblem[] Problems, double[][] Rows, double[][] LogSumExp) Run(
        DecodeFeed feed, bool paged, SoftmaxOptions options, Func<AttentionInputs, AttentionInputs> extend)
    {
        int count = feed.Prompts.Length;
        int rows = feed.Steps * feed.Rows;
        SoftmaxOptions prefill = options with { Kernels = new KernelOptions() };
        SoftmaxProblem[] problems = [.. Enumerable.Range(0, count).Select(s => new SoftmaxProblem(
            extend(new AttentionInputs
            {
                Query = Typed(feed.Query(s).Slice(2, feed.Prompts[s], rows)), Key = Typed(feed.Key(s)), Value = Typed(feed.Value(s)),
            }),
            prefill,
            null))];
        HostArray<double>[] outputs = [.. problems.Select(_ => new HostArray<double>(new TensorShape(1, feed.QueryHeads, rows, feed.ValueDim)))];
        HostArray<double>[] lse = [.. problems.Select(_ => new HostArray<double>(new TensorShape(1, feed.QueryHeads, rows, 1)))];
        SoftmaxAttention attention = new(Device, options);
        using DeviceKeyValueCache cache = Cache(feed, paged);
        AppendPrompts(feed, cache);
        for (int step = 0; step < feed.Steps; step++)
        {
            AppendStep(feed, cache, step);
            using DeviceCopies copies = new(Device);
            using SoftmaxResult result = attention.Decode(
                new DecodeInputs
                {
                    Query = copies.Of(Typed(feed.StepQuery(step))),
                    Gate = problems[0].Inputs.Gate is null ? null : copies.Of(StepGate(problems, feed, step)),
                },
                cache);
            Gather(result.Output, outputs, feed, step);
            Gather(result.LogSumExp, lse, feed, step);
        }

        return (problems, [.. outputs.Select(array => array.Data)], [.. lse.Select(array => array.Data)]);
    }

    private static AttentionTensor StepGate(SoftmaxProblem[] problems, DecodeFeed feed, int step)
    {
        HostArray<double> rows = new(new TensorShape(problems.Length, feed.QueryHeads, feed.Rows, 1));
        for (int s = 0; s < problems.Length; s++)
        {
            HostArray<double> whole = HostArray<double>.Read(problems[s].Inputs.Gate!);
            for (int h = 0; h < feed.QueryHeads; h++)
            {
                for (int i = 0; i < feed.Rows; i++)
                {
                    rows.Row(s, h, i)[0] = whole.Row(0, h, (step * feed.Rows) + i)[0];
                }
            }
        }

        return Values.Tensor(rows, TensorType.Float32);
    }

    private static void Gather(AttentionTensor decoded, HostArray<double>[] sequences, DecodeFeed feed, int step)
    {
        using AttentionTensor host = decoded.ToHost();
        HostArray<double> rows = HostArray<double>.Read(host);
        for (int s = 0; s < sequences.Length; s++)
        {
            for (int h = 0; h < feed.QueryHeads; h++)
            {
                for (int i = 0; i < feed.Rows; i++)
                {
                    rows.Row(s, h, i).CopyTo(sequences[s].Row(0, h, (step * feed.Rows) + i));
                }
            }
        }
    }
}
