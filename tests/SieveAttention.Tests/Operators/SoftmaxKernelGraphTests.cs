using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Calls captured in a CUDA graph, which neither allocate nor wait, and replay with what has changed in device memory.</summary>
[TestFixture(KernelPath.Generic)]
[TestFixture(KernelPath.Hopper)]
internal sealed class SoftmaxKernelGraphTests(KernelPath path) : GpuFixture
{
    private const int HeadDim = 64;
    private const TensorType Type = TensorType.BFloat16;

    [Test]
    public void Both_passes_replay_with_other_lengths_tensors_and_row_factors()
    {
        RequirePath(AttentionDirection.Backward);
        OneViewCase test = new("graph")
        {
            Batch = 2, QueryHeads = 4, KeyHeads = 2, Queries = 90, Keys = 200, HeadDim = HeadDim, ValueDim = HeadDim, Gate = true,
            RowFactorKind = RowFactorKind.PerRow,
        };
        SoftmaxProblem[] problems = [.. Enumerable.Range(1, 3).Select(seed => SoftmaxProblem.Of(test with { Seed = seed }, Type))];
        int[][] lengths = [[200, 130], [90, 200], [131, 97]];
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(
            problems[0].Inputs with { KeyLengths = AttentionTensor.From<int>(lengths[0], new TensorShape(1, 1, 1, 2)) });
        AttentionTensor outputGradient = copies.Of(problems[0].OutputGradient!);
        SoftmaxAttention attention = new(
            Device,
            problems[0].Options with { Kernels = new KernelOptions { Path = path, Repeatability = Repeatability.Bitwise } });
        using AttentionStream stream = Device.CreateStream();
        using DeviceWorkspace workspace = new(Device);
        using SoftmaxResult result = attention.Forward(inputs);
        using AttentionGradients gradients = attention.AllocateGradients(inputs);
        void Enqueue()
        {
            attention.Forward(inputs, result, stream, workspace);
            attention.Backward(inputs, result, outputGradient, gradients, stream, workspace);
        }

        Enqueue();
        stream.Synchronize();
        using CapturedGraph graph = CapturedGraph.Of(stream, Enqueue);
        for (int n = 0; n < problems.Length; n++)
        {
            AttentionInputs changed = problems[n].Inputs;
            changed.Query.CopyTo(inputs.Query, stream);
            changed.Key.CopyTo(inputs.Key, stream);
            changed.Value.CopyTo(inputs.Value, stream);
            changed.Gate!.CopyTo(inputs.Gate!, stream);
            changed.RowFactors!.CopyTo(inputs.RowFactors!, stream);
            problems[n].OutputGradient!.CopyTo(outputGradient, stream);
            AttentionTensor.From<int>(lengths[n], new TensorShape(1, 1, 1, 2)).CopyTo(inputs.KeyLengths!, stream);
            AttentionTensor[] written =
                [result.Output, result.LogSumExp, gradients.Query, gradients.Key, gradients.Value, gradients.Gate!, gradients.RowFactor!.Rows!];
            foreach (AttentionTensor tensor in written)
            {
                DeviceMemory.Poison(tensor, stream);
            }

            graph.Replay();
            byte[][] replayed = [.. written.Select(tensor => DeviceMemory.Bits(tensor, stream))];
            Enqueue();
            for (int t = 0; t < written.Length; t++)
            {
                Assert.That(replayed[t].AsSpan().SequenceEqual(DeviceMemory.Bits(written[t], stream)), $"replay {n}, result {t} differs from a call");
            }

            AssertEntries(problems[n], lengths[n], result, stream, $"replay {n}");
        }
    }

    [Test]
    public void A_decode_step_replays_while_its_cache_grows([Values] bool paged)
    {
        RequirePath(AttentionDirection.Decode);
        const int Sequences = 2;
        const int Heads = 8;
        const int KeyHeads = 2;
        int[] prompts = [63, 400];
        KeyValueCacheLayout layout = new(Sequences, KeyHeads, HeadDim, HeadDim) { Type = Type };
        using DeviceKeyValueCache cache = paged
            ? DeviceKeyValueCache.Paged(Device, layout, pageSize: 16, pages: 96, capacity: 768)
            : DeviceKeyValueCache.Contiguous(Device, layout, capacity: 768);
        using AttentionStream stream = Device.CreateStream();
        Random random = new(3);
        HostArray<double>[] keys = [.. prompts.Select(_ => Values.NormalArray(random, new TensorShape(1, KeyHeads, 768, HeadDim)))];
        HostArray<double>[] values = [.. prompts.Select(_ => Values.NormalArray(random, new TensorShape(1, KeyHeads, 768, HeadDim)))];
        for (int s = 0; s < Sequences; s++)
        {
            Append(s, prompts[s]);
        }

        TensorShape shape = new(Sequences, Heads, 1, HeadDim);
        using AttentionTensor query = Values.Tensor(Values.NormalArray(random, shape), Type).To(Device);
        AttentionStream.FromPointer(Device, 0).Synchronize();
        using SoftmaxResult into = new(
            AttentionTensor.Allocate(Type, shape, Device), AttentionTensor.Allocate(TensorType.Float32, shape with { Channels = 1 }, Device));
        using DeviceWorkspace workspace = new(Device);
        SoftmaxAttention attention = new(Device, new SoftmaxOptions { Kernels = new KernelOptions { Path = path } });
        DecodeInputs inputs = new() { Query = query };
        attention.Decode(inputs, cache, into, stream, workspace);
        using CapturedGraph graph = CapturedGraph.Of(stream, () => attention.Decode(inputs, cache, into, stream, workspace));
        // Over the ends of pages and of the key blocks that a kernel takes at once; one sequence overtakes the other.
        foreach ((int first, int second) in ((int, int)[])[(1, 1), (16, 0), (500, 30)])
        {
            Append(0, first);
            Append(1, second);
            DeviceMemory.Poison(into.Output, stream);
            graph.Replay();
            double[] output = DeviceMemory.Download(into.Output, stream);
            double[] lse = DeviceMemory.Download(into.LogSumExp, stream);
            using AttentionTensor queries = query.ToHost(stream);
            for (int s = 0; s < Sequences; s++)
            {
                SoftmaxProblem alone = new(
                    new AttentionInputs
                    {
                        Query = queries.Slice(0, s, 1),
                        Key = Values.Tensor(keys[s], Type).Slice(2, 0, cache.Length(s)),
                        Value = Values.Tensor(values[s], Type).Slice(2, 0, cache.Length(s)),
                    },
                    new SoftmaxOptions(),
                    null);
                alone.AssertForward(
                    output[(s * Heads * HeadDim)..((s + 1) * Heads * HeadDim)], lse[(s * Heads)..((s + 1) * Heads)], $"{cache.Length(s)} keys");
            }
        }

        void Append(int sequence, int rows)
        {
            if (rows > 0)
            {
                cache.Append(
                    sequence,
                    Values.Tensor(keys[sequence], Type).Slice(2, cache.Length(sequence), rows),
                    Values.Tensor(values[sequence], Type).Slice(2, cache.Length(sequence), rows),
                    stream);
            }
        }
    }

    /// <summary>The output of each entry of the batch is that of its valid keys.</summary>
    private static void AssertEntries(SoftmaxProblem whole, int[] lengths, SoftmaxResult result, AttentionStream stream, string what)
    {
        using AttentionTensor output = result.Output.ToHost(stream);
        using AttentionTensor lse = result.LogSumExp.ToHost(stream);
        for (int b = 0; b < lengths.Length; b++)
        {
            SoftmaxProblem alone = new(
                new AttentionInputs
                {
                    Query = whole.Inputs.Query.Slice(0, b, 1),
                    Key = whole.Inputs.Key.Slice(0, b, 1).Slice(2, 0, lengths[b]),
                    Value = whole.Inputs.Value.Slice(0, b, 1).Slice(2, 0, lengths[b]),
                    Gate = whole.Inputs.Gate!.Slice(0, b, 1),
                    RowFactors = whole.Inputs.RowFactors!.Slice(0, b, 1),
                },
                whole.Options,
                null);
            alone.AssertForward(Values.Doubles(output.Slice(0, b, 1)), Values.Doubles(lse.Slice(0, b, 1)), $"{what}, {lengths[b]} keys");
        }
    }

    private void RequirePath(AttentionDirection direction)
    {
        if (!Device.Supports(AttentionOperation.Softmax, direction, path, Type, HeadDim, HeadDim, out string reason))
        {
            Assert.Ignore(reason);
        }
    }
}
