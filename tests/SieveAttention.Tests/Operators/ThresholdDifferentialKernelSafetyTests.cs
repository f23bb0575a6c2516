using System.Runtime.InteropServices;
using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>What a kernel touches besides being right: guard bands, NaN, repetition, streams and workspaces.</summary>
[TestFixture(TensorType.BFloat16)]
[TestFixture(TensorType.Float16)]
internal sealed class ThresholdDifferentialKernelSafetyTests(TensorType type) : GpuFixture
{
    private const int HeadDim = 64;

    [TestCase(1, 1)]
    [TestCase(113, 203)]
    [TestCase(129, 65)]
    [TestCase(256, 256)]
    public void Every_output_is_written_and_nothing_around_it(int queries, int keys)
    {
        ThresholdCase test = Case(queries, keys);
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        // Two rows and eight channels of guard on every side; all bits set is NaN in both types.
        using AttentionTensor output = DeviceMemory.Poisoned(Device, type, new TensorShape(1, 2, queries + 4, HeadDim + 16));
        using AttentionTensor counts = DeviceMemory.Poisoned(Device, TensorType.Int32, new TensorShape(1, 2, queries + 4, 4));
        using ThresholdDifferentialResult into = new(
            output.Slice(2, 2, queries).Slice(3, 8, HeadDim),
            counts.Slice(2, 2, queries).Slice(3, 1, 1),
            counts.Slice(2, 2, queries).Slice(3, 2, 1));
        new ThresholdDifferentialAttention(Device, test.Options).Forward(inputs.Tensors, into);

        using AttentionTensor outputs = output.ToHost();
        short[] bits = Bits(outputs);
        int width = HeadDim + 16;
        for (int e = 0; e < bits.Length; e++)
        {
            int row = e / width % (queries + 4);
            bool inside = row >= 2 && row < queries + 2 && e % width is >= 8 and < HeadDim + 8;
            Assert.That(bits[e] == -1, Is.EqualTo(!inside), $"element {e} of the output, {(inside ? "not written" : "guard")}");
        }

        using AttentionTensor survivors = counts.ToHost();
        ReadOnlySpan<int> numbers = survivors.AsSpan<int>();
        for (int e = 0; e < numbers.Length; e++)
        {
            int row = e / 4 % (queries + 4);
            bool inside = row >= 2 && row < queries + 2 && e % 4 is 1 or 2;
            Assert.That(numbers[e] == -1, Is.EqualTo(!inside), $"element {e} of the survivors, {(inside ? "not written" : "guard")}");
        }
    }

    [Test]
    public void NaN_in_a_query_reaches_its_row_only([Values(0, 37, 128)] int row)
    {
        ThresholdCase test = Case(150, 150);
        AssertReach(test, inputs => inputs.Query1.Slice(2, row, 1), reached: i => i == row, required: true);
        AssertReach(test, inputs => inputs.Query2!.Slice(2, row, 1), reached: i => i == row, required: true);
    }

    [Test]
    public void NaN_in_a_key_reaches_the_rows_that_see_it_only([Values(0, 37, 149)] int key)
    {
        ThresholdCase test = Case(150, 150);
        AssertReach(test, inputs => inputs.Key1.Slice(2, key, 1), reached: i => i >= key, required: true);
        AssertReach(test, inputs => inputs.Key2!.Slice(2, key, 1), reached: i => i >= key, required: true);
    }

    [Test]
    public void NaN_in_a_value_reaches_only_rows_that_see_it([Values(0, 37, 100, 149)] int key)
    {
        AssertReach(Case(150, 150), inputs => inputs.Value.Slice(2, key, 1), reached: i => i >= key, required: false);
    }

    [Test]
    public void Keys_beyond_a_window_are_not_read()
    {
        ThresholdCase test = Case(150, 150);
        test = test with { Options = test.Options with { Mask = new AttentionMask { Window = 20 } } };
        AssertReach(test, inputs => inputs.Key1.Slice(2, 50, 1), reached: i => i is >= 50 and < 70, required: true);
        AssertReach(test, inputs => inputs.Value.Slice(2, 50, 1), reached: i => i is >= 50 and < 70, required: false);
    }

    [Test]
    public void Repeated_launches_give_the_same_bits_under_memory_pressure()
    {
        ThresholdCase test = Case(799, 799) with { QueryHeads = 8, KeyHeads = 2, Batch = 2 };
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using AttentionStream stream = Device.CreateStream();
        using AttentionStream noise = Device.CreateStream();
        using AttentionTensor traffic = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 1 << 12, 1 << 14), Device);
        using DeviceWorkspace workspace = new(Device);
        using ThresholdDifferentialResult result = Results(test);
        short[]? first = null;
        for (int launch = 0; launch < 100; launch++)
        {
            Device.Fill(traffic.DevicePointer, (byte)launch, 1UL << 28, noise);
            Device.Fill(result.Output.DevicePointer, 0xFF, (ulong)test.OutputShape.Count * 2, stream);
            attention.Forward(inputs.Tensors, result, stream, workspace);
            using AttentionTensor host = result.Output.ToHost(stream);
            short[] bits = Bits(host);
            first ??= bits;
            Assert.That(bits.AsSpan().SequenceEqual(first), $"launch {launch} differs");
        }
    }

    [Test]
    public void A_workspace_stops_growing_after_the_first_call()
    {
        ThresholdCase test = Case(200, 300);
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using ThresholdDifferentialResult result = Results(test);
        using DeviceWorkspace workspace = new(Device);
        attention.Forward(inputs.Tensors, result, workspace: workspace);
        ulong bytes = workspace.Bytes;
        nint memory = workspace.Pointer(1);
        attention.Forward(inputs.Tensors, result, workspace: workspace);
        Assert.That(workspace.Bytes, Is.EqualTo(bytes));
        Assert.That(workspace.Pointer(1), Is.EqualTo(memory));
    }

    [Test]
    public void Several_threads_may_share_a_device_and_an_operator()
    {
        ThresholdCase test = Case(239, 239);
        ThresholdDifferentialInputs host = test.Inputs(type);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using DeviceInputs inputs = new(host, Device);
        using ThresholdDifferentialResult expected = attention.Forward(inputs.Tensors);
        using AttentionTensor expectedHost = expected.Output.ToHost();
        short[] bits = Bits(expectedHost);
        Parallel.For(0, 8, _ =>
        {
            using AttentionStream stream = Device.CreateStream();
            using DeviceWorkspace workspace = new(Device);
            using ThresholdDifferentialResult result = Results(test);
            for (int launch = 0; launch < 20; launch++)
            {
                attention.Forward(inputs.Tensors, result, stream, workspace);
            }

            using AttentionTensor actual = result.Output.ToHost(stream);
            Assert.That(Bits(actual).AsSpan().SequenceEqual(bits));
        });
    }

    [Test]
    public void A_stream_that_has_been_released_is_refused()
    {
        ThresholdCase test = Case(17, 17);
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        using ThresholdDifferentialResult result = Results(test);
        AttentionStream stream = Device.CreateStream();
        stream.Dispose();
        Assert.That(
            () => new ThresholdDifferentialAttention(Device, test.Options).Forward(inputs.Tensors, result, stream),
            Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(AttentionStream)));
    }

    private static ThresholdCase Case(int queries, int keys) => new($"{queries} x {keys}")
    {
        Queries = queries,
        Keys = keys,
        HeadDim = HeadDim,
        ValueDim = HeadDim,
        // Negative thresholds: every visible pair has a weight, so that nothing hides behind a skipped tile.
        Options = new ThresholdDifferentialOptions { Beta = -0.1, Lambda = 0.5 },
    };

    private ThresholdDifferentialResult Results(ThresholdCase test)
    {
        TensorShape rows = test.OutputShape with { Channels = 1 };
        return new ThresholdDifferentialResult(
            AttentionTensor.Allocate(type, test.OutputShape, Device),
            AttentionTensor.Allocate(TensorType.Int32, rows, Device),
            AttentionTensor.Allocate(TensorType.Int32, rows, Device));
    }

    /// <summary>Rows that NaN in a part of the inputs must not reach keep their bits; rows that it must reach are NaN.</summary>
    private void AssertReach(
        ThresholdCase test, Func<ThresholdDifferentialInputs, AttentionTensor> part, Func<int, bool> reached, bool required)
    {
        ThresholdDifferentialInputs host = test.Inputs(type);
        HostArray<double> before = Run(test, host);
        AttentionTensor poisoned = part(host);
        HostArray<double> nan = new(poisoned.Shape);
        Array.Fill(nan.Data, double.NaN);
        nan.WriteTo(poisoned);
        HostArray<double> after = Run(test, host);
        for (int h = 0; h < test.QueryHeads; h++)
        {
            for (int i = 0; i < test.Queries; i++)
            {
                if (!reached(i))
                {
                    Assert.That(after.Row(0, h, i).ToArray(), Is.EqualTo(before.Row(0, h, i).ToArray()), $"head {h}, row {i}");
                }
                else if (required)
                {
                    Assert.That(after.Row(0, h, i).ToArray(), Has.All.NaN, $"head {h}, row {i}");
                }
            }
        }
    }

    private HostArray<double> Run(ThresholdCase test, ThresholdDifferentialInputs host)
    {
        using DeviceInputs inputs = new(host, Device);
        using ThresholdDifferentialResult result = test.Forward(Device, inputs.Tensors);
        using AttentionTensor output = result.Output.ToHost();
        return HostArray<double>.Read(output);
    }

    private short[] Bits(AttentionTensor host) => type == TensorType.BFloat16
        ? MemoryMarshal.Cast<BFloat16, short>(host.AsSpan<BFloat16>()).ToArray()
        : MemoryMarshal.Cast<Half, short>(host.AsSpan<Half>()).ToArray();
}
