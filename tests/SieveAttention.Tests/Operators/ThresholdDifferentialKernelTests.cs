using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>The CUDA kernels against the float64 reference, by the rule of twice the error of plain arithmetic.</summary>
// In parallel because the float64 reference takes most of the time; it also shows that a device may be shared.
[Parallelizable(ParallelScope.All)]
[TestFixture(TensorType.BFloat16, 64)]
[TestFixture(TensorType.BFloat16, 128)]
[TestFixture(TensorType.Float16, 64)]
[TestFixture(TensorType.Float16, 128)]
internal sealed class ThresholdDifferentialKernelTests(TensorType type, int headDim) : GpuFixture
{
    private static IEnumerable<ThresholdCase> Cases => ThresholdDifferentialKernelCases.All;

    [TestCaseSource(nameof(Cases))]
    public void Forward_is_within_twice_the_error_of_plain_arithmetic(ThresholdCase test)
    {
        test = Sized(test);
        ThresholdDifferentialInputs host = test.Inputs(type);
        using DeviceInputs inputs = new(host, Device);
        using ThresholdDifferentialResult result = test.Forward(Device, inputs.Tensors);
        Assert.That(result.Output.Type, Is.EqualTo(type));
        AssertResult(test, host, result);
    }

    [TestCase(KeyScreen.None)]
    [TestCase(KeyScreen.EightBits)]
    public void Screen_and_bitmap_change_nothing_and_the_bitmap_marks_the_rows_with_survivors(KeyScreen screen)
    {
        ThresholdCase test = Sized(new ThresholdCase("screen") { QueryHeads = 4, KeyHeads = 2, Queries = 130, Keys = 1300 });
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        using ThresholdDifferentialResult expected = new ThresholdDifferentialAttention(Device, test.Options).Forward(inputs.Tensors);
        AttentionTensor Allocate(int rows, int words) => AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 4, rows, words), Device);
        using ThresholdDifferentialResult actual = new(
            AttentionTensor.Allocate(type, test.OutputShape, Device), Allocate(130, 1), Allocate(130, 1), Allocate(3, 2));
        new ThresholdDifferentialAttention(Device, test.Options with { Screen = screen }).Forward(inputs.Tensors, actual);
        Assert.That(Download(actual.Output), Is.EqualTo(Download(expected.Output)));
        int[] first = Counts(actual.Survivors1), second = Counts(actual.Survivors2!), tiles = Counts(actual.SurvivorTiles!);
        Assert.That(first, Is.EqualTo(Counts(expected.Survivors1)));
        for (int tile = 0; tile < 4 * 3; tile++)
        {
            int row = tile / 3 * 130 + tile % 3 * 64, rows = Math.Min(64, 130 - tile % 3 * 64), word = tiles[2 * tile] | tiles[2 * tile + 1];
            Assert.That((word & 0x55555555) != 0, Is.EqualTo(first.AsSpan(row, rows).ContainsAnyExcept(0)), $"view 1, tile {tile}");
            Assert.That((word & unchecked((int)0xAAAAAAAA)) != 0, Is.EqualTo(second.AsSpan(row, rows).ContainsAnyExcept(0)), $"view 2, tile {tile}");
        }
    }

    [TestCase(65, 130)]
    [TestCase(239, 239)]
    public void Sequence_first_views_give_the_same_bits_as_dense_tensors(int queries, int keys)
    {
        ThresholdCase test = Sized(new ThresholdCase("strides")
        {
            Batch = 2, QueryHeads = 4, KeyHeads = 2, Queries = queries, Keys = keys, Gate = true,
        });
        ThresholdDifferentialInputs host = test.Inputs(type);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using DeviceInputs dense = new(host, Device);
        using DeviceInputs strided = new(host, Device, sequenceFirst: true);
        using ThresholdDifferentialResult expected = attention.Forward(dense.Tensors);
        using AttentionTensor output = AttentionTensor.Allocate(type, new TensorShape(2, queries, 4, headDim), Device);
        using AttentionTensor counts = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(2, queries, 4, 2), Device);
        using ThresholdDifferentialResult actual = new(
            output.Permute(0, 2, 1, 3), counts.Permute(0, 2, 1, 3).Slice(3, 0, 1), counts.Permute(0, 2, 1, 3).Slice(3, 1, 1));
        attention.Forward(strided.Tensors, actual);
        Assert.That(Download(actual.Output), Is.EqualTo(Download(expected.Output)));
        Assert.That(Counts(actual.Survivors1), Is.EqualTo(Counts(expected.Survivors1)));
        Assert.That(Counts(actual.Survivors2!), Is.EqualTo(Counts(expected.Survivors2!)));
    }

    [Test]
    public void A_float32_output_rounds_to_the_16_bit_output()
    {
        ThresholdCase test = Sized(new ThresholdCase("float32") { Queries = 130, Keys = 130 });
        ThresholdDifferentialInputs host = test.Inputs(type);
        using DeviceInputs inputs = new(host, Device);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using ThresholdDifferentialResult narrow = attention.Forward(inputs.Tensors);
        using ThresholdDifferentialResult wide = new(
            AttentionTensor.Allocate(TensorType.Float32, test.OutputShape, Device),
            AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 2, 130, 1), Device));
        attention.Forward(inputs.Tensors, wide);
        double[] rounded = Array.ConvertAll(Download(wide.Output), value => Values.Round(value, type));
        Assert.That(rounded, Is.EqualTo(Download(narrow.Output)));
    }

    [Test]
    public void The_trained_layer_is_within_twice_the_error_of_plain_arithmetic()
    {
        GoldenCase real = GoldenCase.Load("real", "threshold-differential");
        ThresholdDifferentialInputs host = real.Inputs;
        if (host.Query1.Shape.Channels != headDim)
        {
            Assert.Ignore($"The layer has head_dim {host.Query1.Shape.Channels}.");
        }

        if (type != host.Query1.Type)
        {
            host = host with
            {
                Query1 = Rounded(host.Query1),
                Key1 = Rounded(host.Key1),
                Query2 = Rounded(host.Query2!),
                Key2 = Rounded(host.Key2!),
                Value = Rounded(host.Value),
            };
        }

        ThresholdCase test = new("trained layer")
        {
            QueryHeads = host.Query1.Shape.Heads,
            KeyHeads = host.Key1.Shape.Heads,
            Queries = host.Query1.Shape.Rows,
            Keys = host.Key1.Shape.Rows,
            HeadDim = headDim,
            ValueDim = host.Value.Shape.Channels,
            Options = real.Options,
        };
        using DeviceInputs inputs = new(host, Device);
        using ThresholdDifferentialResult result = test.Forward(Device, inputs.Tensors);
        AssertResult(test, host, result);
    }

    [Test]
    public void Identical_views_with_lambda_one_give_exactly_zero()
    {
        ThresholdCase test = Sized(new ThresholdCase("identical") { Queries = 200, Keys = 200 });
        test = test with { Options = test.Options with { Lambda = 1 } };
        ThresholdDifferentialInputs host = test.Inputs(type);
        using DeviceInputs inputs = new(host with { Query2 = host.Query1, Key2 = host.Key1 }, Device);
        using ThresholdDifferentialResult result = test.Forward(Device, inputs.Tensors);
        Assert.That(Download(result.Output), Has.All.Zero);
        Assert.That(Counts(result.Survivors1).Sum(), Is.GreaterThan(0));
        Assert.That(Counts(result.Survivors2!), Is.EqualTo(Counts(result.Survivors1)));
    }

    [Test]
    public void An_unsupported_head_dim_is_refused_and_the_outputs_stay_as_they_are()
    {
        ThresholdCase test = new ThresholdCase("unsupported") { HeadDim = 72, ValueDim = 72 };
        using DeviceInputs inputs = new(test.Inputs(type), Device);
        using AttentionTensor output = Values.Tensor(new double[test.OutputShape.Count], test.OutputShape, type).To(Device);
        Device.Fill(output.DevicePointer, 0x11, (ulong)test.OutputShape.Count * 2, null);
        double[] before = Download(output);
        using AttentionTensor counts = AttentionTensor.Allocate(TensorType.Int32, new TensorShape(1, 2, 17, 1), Device);
        using ThresholdDifferentialResult into = new(output, counts);
        Assert.That(
            () => new ThresholdDifferentialAttention(Device, test.Options).Forward(inputs.Tensors, into),
            Throws.TypeOf<NotSupportedException>().With.Message.Contains("head_dim 72").And.Message.Contains("nearest supported"));
        Assert.That(Download(output), Is.EqualTo(before));
    }

    [Test]
    public void Tensors_of_the_host_or_of_mixed_types_are_refused()
    {
        ThresholdCase test = Sized(new ThresholdCase("wrong"));
        ThresholdDifferentialInputs host = test.Inputs(type);
        ThresholdDifferentialAttention attention = new(Device, test.Options);
        using DeviceInputs inputs = new(host, Device);
        using DeviceInputs float32 = new(test.Inputs(TensorType.Float32), Device);
        Assert.Multiple(() =>
        {
            Assert.That(
                () => attention.Forward(host),
                Throws.ArgumentException.With.Message.Contains("Query1 is").And.Message.Contains("To(device)"));
            Assert.That(
                () => attention.Forward(float32.Tensors),
                Throws.ArgumentException.With.Message.Contains("Float32; allowed: Float16, BFloat16"));
            Assert.That(
                () => attention.Forward(inputs.Tensors with { Value = float32.Tensors.Value }),
                Throws.ArgumentException.With.Message.Contains("Value has elements of type Float32"));
            Assert.That(
                () => new ThresholdDifferentialAttention(AttentionDevice.Cpu, test.Options).Forward(inputs.Tensors),
                Throws.ArgumentException.With.Message.Contains("ToHost()"));
            Assert.That(
                () => new ThresholdDifferentialAttention(AttentionDevice.Cpu, test.Options).AllocateGradients(host),
                Throws.TypeOf<NotSupportedException>().With.Message.Contains("Cuda"));
        });
    }

    private ThresholdCase Sized(ThresholdCase test) => test with { HeadDim = headDim, ValueDim = headDim };

    private AttentionTensor Rounded(AttentionTensor tensor) => Values.Tensor(HostArray<double>.Read(tensor), type);

    private void AssertResult(ThresholdCase test, ThresholdDifferentialInputs host, ThresholdDifferentialResult result)
    {
        using ThresholdDifferentialResult reference = test.Forward(AttentionDevice.Reference, host);
        double[] expected = Values.Doubles(reference.Output);
        double[] plain = PlainThresholdDifferential.Forward(test, host, type);
        KernelTolerance.AssertWithin(Download(result.Output), plain, expected, type, $"{test.Name}, {type}, head_dim {headDim}");
        SurvivorTolerance.AssertWithin(test, host.Query1, host.Key1, Counts(result.Survivors1), Counts(reference.Survivors1));
        if (host.Query2 is not null)
        {
            SurvivorTolerance.AssertWithin(test, host.Query2, host.Key2!, Counts(result.Survivors2!), Counts(reference.Survivors2!));
        }
    }

    private static double[] Download(AttentionTensor tensor)
    {
        using AttentionTensor host = tensor.ToHost();
        return Values.Doubles(host);
    }

    private static int[] Counts(AttentionTensor tensor)
    {
        using AttentionTensor host = tensor.ToHost();
        return host.AsSpan<int>().ToArray();
    }
}
