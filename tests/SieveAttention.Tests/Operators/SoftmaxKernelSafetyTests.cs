using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>What softmax kernels touch besides being right: guard bands, NaN, repetition, workspaces, addresses past 2^31 elements.</summary>
[TestFixture(TensorType.BFloat16, KernelPath.Generic)]
[TestFixture(TensorType.BFloat16, KernelPath.Hopper)]
[TestFixture(TensorType.Float16, KernelPath.Generic)]
[TestFixture(TensorType.Float16, KernelPath.Hopper)]
internal sealed class SoftmaxKernelSafetyTests(TensorType type, KernelPath path) : GpuFixture
{
    private const int HeadDim = 64;

    [TestCase(1, 1)]
    [TestCase(113, 203)]
    [TestCase(129, 65)]
    [TestCase(256, 256)]
    public void Every_output_is_written_and_nothing_around_it(int queries, int keys)
    {
        OneViewCase test = Case(queries, keys);
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        SoftmaxAttention attention = Attention(problem);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        using DeviceMemory.Guarded output = new(Device, type, test.OutputShape);
        using DeviceMemory.Guarded lse = new(Device, TensorType.Float32, test.RowShape);
        SoftmaxResult into = new(output.Inner, lse.Inner);
        attention.Forward(inputs, into);
        output.AssertWritten("output");
        lse.AssertWritten("lse");
        problem.AssertForward(into, "guarded");
        RequireBackward();
        using DeviceMemory.Guarded query = new(Device, type, test.QueryShape);
        using DeviceMemory.Guarded key = new(Device, type, test.KeyShape);
        using DeviceMemory.Guarded value = new(Device, TensorType.Float32, test.ValueShape);
        using DeviceMemory.Guarded gate = new(Device, TensorType.Float32, test.RowShape);
        using DeviceMemory.Guarded factors = new(Device, TensorType.Float32, test.RowShape);
        AttentionGradients gradients = new(
            query.Inner, key.Inner, value.Inner, gate.Inner, RowFactorGradients.OfRows(factors.Inner));
        attention.Backward(inputs, into, copies.Of(problem.OutputGradient!), gradients);
        query.AssertWritten("gradient of queries");
        key.AssertWritten("gradient of keys");
        value.AssertWritten("gradient of values");
        gate.AssertWritten("gradient of the gate");
        factors.AssertWritten("gradient of row factors");
        problem.AssertGradients(gradients, "guarded");
    }

    [Test]
    public void NaN_in_a_query_reaches_its_row_only([Values(0, 37, 128)] int row) =>
        AssertReach(null, inputs => inputs.Query.Slice(2, row, 1), reached: i => i == row, required: true);

    [Test]
    public void NaN_in_a_key_reaches_the_rows_that_see_it_only([Values(0, 37, 149)] int key) =>
        AssertReach(null, inputs => inputs.Key.Slice(2, key, 1), reached: i => i >= key, required: true);

    [Test]
    public void NaN_in_a_value_reaches_the_rows_that_see_it_only([Values(0, 37, 100, 149)] int key) =>
        AssertReach(null, inputs => inputs.Value.Slice(2, key, 1), reached: i => i >= key, required: true);

    [Test]
    public void Keys_beyond_a_window_are_not_read()
    {
        AssertReach(20, inputs => inputs.Key.Slice(2, 50, 1), reached: i => i is >= 50 and < 70, required: true);
        AssertReach(20, inputs => inputs.Value.Slice(2, 50, 1), reached: i => i is >= 50 and < 70, required: true);
    }

    [Test]
    public void Repeated_launches_give_the_same_bits_under_memory_pressure()
    {
        OneViewCase test = Case(799, 799) with { QueryHeads = 8, KeyHeads = 2, Batch = 2 };
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        SoftmaxAttention attention = Attention(problem);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        using AttentionStream stream = Device.CreateStream();
        using AttentionStream noise = Device.CreateStream();
        using AttentionTensor traffic = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 1 << 12, 1 << 14), Device);
        using DeviceWorkspace workspace = new(Device);
        using SoftmaxResult result = attention.Forward(inputs);
        bool backward = Supports(AttentionDirection.Backward);
        using AttentionGradients gradients = attention.AllocateGradients(inputs);
        List<AttentionTensor> written = [result.Output, result.LogSumExp];
        if (backward)
        {
            written.AddRange([gradients.Query, gradients.Key, gradients.Value, gradients.Gate!, gradients.RowFactor!.Rows!]);
        }

        byte[][]? first = null;
        for (int launch = 0; launch < 50; launch++)
        {
            Device.Fill(traffic.DevicePointer, (byte)launch, 1UL << 28, noise);
            written.ForEach(tensor => DeviceMemory.Poison(tensor, stream));
            attention.Forward(inputs, result, stream, workspace);
            if (backward)
            {
                attention.Backward(inputs, result, outputGradient, gradients, stream, workspace);
            }

            byte[][] bits = [.. written.Select(tensor => DeviceMemory.Bits(tensor, stream))];
            first ??= bits;
            for (int n = 0; n < bits.Length; n++)
            {
                Assert.That(bits[n].AsSpan().SequenceEqual(first[n]), $"launch {launch}, result {n} differs");
            }
        }
    }

    [Test]
    public void A_workspace_stops_growing_after_the_first_call()
    {
        SoftmaxProblem problem = SoftmaxProblem.Of(Case(200, 300), type);
        SoftmaxAttention attention = Attention(problem);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        using SoftmaxResult result = attention.Forward(inputs);
        using AttentionGradients gradients = attention.AllocateGradients(inputs);
        using DeviceWorkspace workspace = new(Device);
        Run();
        ulong bytes = workspace.Bytes;
        nint memory = workspace.Pointer(1);
        Run();
        Assert.That(workspace.Bytes, Is.EqualTo(bytes));
        Assert.That(workspace.Pointer(1), Is.EqualTo(memory));

        void Run()
        {
            attention.Forward(inputs, result, workspace: workspace);
            if (Supports(AttentionDirection.Backward))
            {
                attention.Backward(inputs, result, outputGradient, gradients, workspace: workspace);
            }
        }
    }

    [Test]
    public void Addresses_past_two_to_the_31_elements_are_right()
    {
        const long Far = 1L << 31;
        const int Rows = 130;
        OneViewCase test = new("far") { Queries = Rows, Keys = Rows, HeadDim = HeadDim, ValueDim = HeadDim };
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        using DeviceCopies copies = new(Device);
        AttentionInputs near = copies.Of(problem.Inputs);
        // One piece of memory for everything: the second head of each tensor lies 2^31 elements behind the first.
        using AttentionTensor memory = AttentionTensor.Allocate(type, new TensorShape(1, 2, 1 << 15, 1 << 16), Device);
        int made = 0;
        AttentionTensor Spread(AttentionTensor? source)
        {
            AttentionTensor far = AttentionTensor.FromDevicePointer(
                memory.DevicePointer + (2 * Rows * HeadDim * made++),
                Device,
                type,
                test.OutputShape,
                new TensorStrides(2 * Far, Far, HeadDim, 1));
            source?.CopyTo(far);
            return far;
        }

        AttentionInputs inputs = near with { Query = Spread(near.Query), Key = Spread(near.Key), Value = Spread(near.Value) };
        SoftmaxAttention attention = Attention(problem);
        using SoftmaxResult expected = attention.Forward(near);
        using SoftmaxResult actual = new(
            Spread(null), AttentionTensor.Allocate(TensorType.Float32, test.RowShape, Device));
        attention.Forward(inputs, actual);
        Assert.That(DeviceMemory.Bits(actual.Output), Is.EqualTo(DeviceMemory.Bits(expected.Output)));
        RequireBackward();
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        using AttentionGradients first = attention.AllocateGradients(near);
        using AttentionGradients second = new(Spread(null), Spread(null), Spread(null));
        attention.Backward(near, expected, outputGradient, first);
        attention.Backward(inputs, actual, Spread(outputGradient), second);
        Assert.That(DeviceMemory.Bits(second.Query), Is.EqualTo(DeviceMemory.Bits(first.Query)));
        Assert.That(DeviceMemory.Bits(second.Key), Is.EqualTo(DeviceMemory.Bits(first.Key)));
        Assert.That(DeviceMemory.Bits(second.Value), Is.EqualTo(DeviceMemory.Bits(first.Value)));
    }

    [Test]
    public void What_kernels_do_not_compute_is_refused_and_the_outputs_stay_as_they_are()
    {
        OneViewCase test = Case(17, 17) with { HeadDim = 72, ValueDim = 72 };
        SoftmaxProblem problem = SoftmaxProblem.Of(test, type);
        using DeviceCopies copies = new(Device);
        AttentionInputs inputs = copies.Of(problem.Inputs);
        AttentionTensor outputGradient = copies.Of(problem.OutputGradient!);
        using SoftmaxResult into = new(
            DeviceMemory.Poisoned(Device, type, test.OutputShape), DeviceMemory.Poisoned(Device, TensorType.Float32, test.RowShape));
        SoftmaxOptions options = problem.Options;
        Assert.Multiple(() =>
        {
            Assert.That(
                () => Attention(problem).Forward(inputs, into),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("head_dim 72").And.Message.Contains("nearest supported"));
            Assert.That(
                () => new SoftmaxAttention(Device, options with { Scores = options.Scores with { AlibiSlopes = [0.1, 0.2] } }).Forward(inputs, into),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("AlibiSlopes").And.Message.Contains("Reference, Cpu"));
            Assert.That(
                () => new SoftmaxAttention(Device, options with { Scores = options.Scores with { Scale = -1 } }).Forward(inputs, into),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("Scale is -1"));
            Assert.That(
                () => new SoftmaxAttention(
                    Device, options with { Epilogue = new OutputEpilogue { Norm = OutputNorm.Rms, NormEpsilon = 1e-3 } })
                    .Backward(inputs, outputGradient),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("with a norm").And.Message.Contains("Reference, Cpu"));
            Assert.That(
                () => Attention(problem).Forward(problem.Inputs, into),
                Throws.ArgumentException.With.Message.Contains("Query is").And.Message.Contains("To(device)"));
            Assert.That(
                () => Attention(problem).Forward(inputs with { RowFactors = null }, into),
                Throws.ArgumentException.With.Message.Contains("RowFactors is absent"));
        });
        Assert.That(DeviceMemory.Bits(into.Output), Has.All.EqualTo((byte)0xFF));
    }

    /// <summary>With a gate and factors of rows, so that every input and gradient takes part.</summary>
    private static OneViewCase Case(int queries, int keys) => new($"{queries} x {keys}")
    {
        Queries = queries, Keys = keys, HeadDim = HeadDim, ValueDim = HeadDim, Gate = true, RowFactorKind = RowFactorKind.PerRow,
    };

    private SoftmaxAttention Attention(SoftmaxProblem problem) => new(
        Device,
        problem.Options with { Kernels = new KernelOptions { Path = path, Repeatability = Repeatability.Bitwise } });

    private bool Supports(AttentionDirection direction) =>
        Device.Supports(AttentionOperation.Softmax, direction, path, type, HeadDim, HeadDim, out _);

    private void RequireBackward()
    {
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Backward, path, type, HeadDim, HeadDim, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    [SetUp]
    public void RequirePath()
    {
        if (!Device.Supports(AttentionOperation.Softmax, AttentionDirection.Forward, path, type, HeadDim, HeadDim, out string reason))
        {
            Assert.Ignore(reason);
        }
    }

    /// <summary>Rows that NaN in a part of the inputs must not reach keep their bits; rows that it must reach are NaN.</summary>
    private void AssertReach(int? window, Func<AttentionInputs, AttentionTensor> part, Func<int, bool> reached, bool required)
    {
        OneViewCase test = new("NaN") { Queries = 150, Keys = 150, HeadDim = HeadDim, ValueDim = HeadDim };
        SoftmaxProblem problem = SoftmaxProblem.Of(test with { Mask = new AttentionMask { Window = window } }, type);
        HostArray<double> before = Run(problem);
        AttentionTensor poisoned = part(problem.Inputs);
        HostArray<double> nan = new(poisoned.Shape);
        Array.Fill(nan.Data, double.NaN);
        nan.WriteTo(poisoned);
        HostArray<double> after = Run(problem);
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

    private HostArray<double> Run(SoftmaxProblem problem)
    {
        using DeviceCopies copies = new(Device);
        using SoftmaxResult result = Attention(problem).Forward(copies.Of(problem.Inputs));
        using AttentionTensor output = result.Output.ToHost();
        return HostArray<double>.Read(output);
    }
}
