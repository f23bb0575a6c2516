using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Tensors;

internal sealed class AttentionTensorTests
{
    private static readonly TensorShape s_shape = new(2, 3, 4, 5);

    [Test]
    public void A_tensor_shares_the_callers_memory()
    {
        float[] memory = new float[s_shape.Count];
        using AttentionTensor tensor = AttentionTensor.From<float>(memory, s_shape);
        tensor.AsSpan<float>()[7] = 3;
        Assert.Multiple(() =>
        {
            Assert.That(memory[7], Is.EqualTo(3));
            Assert.That(tensor.Type, Is.EqualTo(TensorType.Float32));
            Assert.That(tensor.IsOnHost);
            Assert.That(tensor.Device, Is.Null);
            Assert.That(tensor.IsContiguous);
            Assert.That(tensor.ToString(), Is.EqualTo("Float32 [2, 3, 4, 5] on host"));
        });
    }

    [Test]
    public void Memory_that_is_too_short_is_refused_with_both_lengths()
    {
        Assert.That(
            () => AttentionTensor.From<float>(new float[119], s_shape),
            Throws.ArgumentException
                .With.Message.Contains("119 elements").And.Message.Contains("[2, 3, 4, 5]").And.Message.Contains("needs 120"));
    }

    [Test]
    public void Strides_decide_how_much_memory_is_needed()
    {
        TensorStrides strides = new(1000, 100, 10, 2);
        long needed = 1000 + 200 + 30 + 8 + 1;
        using AttentionTensor tensor = AttentionTensor.From<float>(new float[needed], s_shape, strides);
        Assert.That(() => AttentionTensor.From<float>(new float[needed - 1], s_shape, strides), Throws.ArgumentException);
        Assert.That(tensor.IsContiguous, Is.False);
    }

    [TestCase(0, 1, 1, 1)]
    [TestCase(1, 1, -1, 1)]
    public void A_size_below_one_is_refused(int batch, int heads, int rows, int channels)
    {
        Assert.That(
            () => AttentionTensor.From<float>(new float[8], new TensorShape(batch, heads, rows, channels)),
            Throws.ArgumentException.With.Message.Contains($"[{batch}, {heads}, {rows}, {channels}]").And.Message.Contains("at least 1"));
    }

    [Test]
    public void A_negative_stride_is_refused()
    {
        Assert.That(
            () => AttentionTensor.From<float>(new float[8], new TensorShape(1, 1, 2, 2), new TensorStrides(4, 4, -2, 1)),
            Throws.ArgumentException.With.Message.Contains("[4, 4, -2, 1]").And.Message.Contains("at least 0"));
    }

    [Test]
    public void Sizes_that_overflow_are_refused_instead_of_wrapping()
    {
        TensorShape huge = new(int.MaxValue, int.MaxValue, int.MaxValue, 1);
        Assert.That(() => AttentionTensor.From<float>(new float[8], huge, new TensorStrides(0, 0, 0, 1)), Throws.Nothing);
        Assert.That(
            () => AttentionTensor.From<float>(new float[8], huge, new TensorStrides(long.MaxValue, 1, 1, 1)),
            Throws.ArgumentException.With.Message.Contains("can be addressed"));
    }

    [Test]
    public void An_element_type_that_does_not_exist_is_refused()
    {
        Assert.That(
            () => AttentionTensor.From<long>(new long[1], new TensorShape(1, 1, 1, 1)),
            Throws.TypeOf<NotSupportedException>().With.Message.Contains("Int64").And.Message.Contains("BFloat16"));
    }

    [Test]
    public void Slices_and_permutations_show_the_same_elements()
    {
        // Sequence-first: [batch, rows, heads, channels], element = its own index.
        double[] memory = [.. Enumerable.Range(0, 2 * 4 * 3 * 5).Select(i => (double)i)];
        using AttentionTensor sequenceFirst = AttentionTensor.From<double>(memory, new TensorShape(2, 4, 3, 5));
        using AttentionTensor headFirst = sequenceFirst.Permute(0, 2, 1, 3);
        using AttentionTensor slice = headFirst.Slice(2, 1, 2);
        Assert.That(headFirst.Shape, Is.EqualTo(s_shape));
        Assert.That(slice.Shape, Is.EqualTo(new TensorShape(2, 3, 2, 5)));
        HostArray<double> dense = HostArray<double>.Read(slice);
        for (int b = 0; b < 2; b++)
        {
            for (int h = 0; h < 3; h++)
            {
                for (int r = 0; r < 2; r++)
                {
                    for (int c = 0; c < 5; c++)
                    {
                        Assert.That(dense.Row(b, h, r)[c], Is.EqualTo((((((b * 4) + r + 1) * 3) + h) * 5) + c));
                    }
                }
            }
        }
    }

    [TestCase(4, 0, 1)]
    [TestCase(2, 4, 1)]
    [TestCase(2, -1, 1)]
    [TestCase(2, 1, 4)]
    [TestCase(2, 1, 0)]
    public void A_slice_outside_the_tensor_is_refused(int dimension, int start, int length)
    {
        using AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        Assert.That(() => tensor.Slice(dimension, start, length), Throws.TypeOf<ArgumentOutOfRangeException>());
    }

    [Test]
    public void An_order_that_is_no_permutation_is_refused()
    {
        using AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        Assert.That(() => tensor.Permute(0, 1, 1, 3), Throws.ArgumentException.With.Message.Contains("(0, 1, 1, 3)"));
    }

    [Test]
    public void Spans_exist_for_dense_host_tensors_of_the_right_type_only()
    {
        using AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        using AttentionTensor strided = tensor.Slice(3, 0, 2);
        using AttentionTensor readOnly = AttentionTensor.FromReadOnly<float>(new float[120], s_shape);
        Assert.Multiple(() =>
        {
            Assert.That(
                () => tensor.AsMemory<double>(),
                Throws.InvalidOperationException.With.Message.Contains("Float32").And.Message.Contains("Float64"));
            Assert.That(() => strided.AsMemory<float>(), Throws.InvalidOperationException.With.Message.Contains("dense"));
            Assert.That(() => readOnly.AsMemory<float>(), Throws.InvalidOperationException.With.Message.Contains("read-only"));
            Assert.That(readOnly.AsReadOnlyMemory<float>().Length, Is.EqualTo(120));
        });
    }

    [Test]
    public void Use_after_disposal_names_the_type()
    {
        AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        tensor.Dispose();
        tensor.Dispose();
        Assert.Multiple(() =>
        {
            Assert.That(() => tensor.AsMemory<float>(), Disposed());
            Assert.That(() => tensor.Slice(0, 0, 1), Disposed());
            Assert.That(() => tensor.ToHost(), Disposed());
        });

        static NUnit.Framework.Constraints.IResolveConstraint Disposed() =>
            Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(AttentionTensor));
    }

    [Test]
    public void A_view_outlives_the_tensor_it_was_made_from()
    {
        AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        using AttentionTensor view = tensor.Slice(0, 1, 1);
        tensor.Dispose();
        view.AsSpan<float>().Fill(1);
        Assert.That(view.AsSpan<float>().ToArray(), Has.All.EqualTo(1));
    }

    [Test]
    public void Storage_is_given_back_by_the_last_view_exactly_once()
    {
        CountingStorage storage = new();
        Assert.That(storage.TryRetain());
        storage.Release();
        Assert.That(storage.Freed, Is.Zero);
        storage.Release();
        Assert.That(storage.Freed, Is.EqualTo(1));
        Assert.That(storage.TryRetain(), Is.False, "what has been given back cannot be used again");
    }

    [Test]
    public void Copies_between_strided_tensors_keep_elements_and_gaps([Values] TensorType type)
    {
        using AttentionTensor source = AttentionTensor.Allocate(type, new TensorShape(2, 4, 3, 5));
        Fill(source, i => i % 100);
        using AttentionTensor from = source.Permute(0, 2, 1, 3);
        using AttentionTensor target = AttentionTensor.Allocate(type, new TensorShape(2, 3, 6, 7));
        Fill(target, _ => 111);
        using AttentionTensor rows = target.Slice(2, 1, 4);
        using AttentionTensor to = rows.Slice(3, 1, 5);
        from.CopyTo(to);
        Assert.That(Elements(to), Is.EqualTo(Elements(from)));
        int untouched = Elements(target).Count(value => value == 111);
        Assert.That(untouched, Is.EqualTo((2 * 3 * 6 * 7) - (2 * 3 * 4 * 5)));
    }

    [Test]
    public void A_copy_to_a_read_only_or_overlapping_target_is_refused()
    {
        using AttentionTensor source = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        using AttentionTensor readOnly = AttentionTensor.FromReadOnly<float>(new float[120], s_shape);
        using AttentionTensor repeated = AttentionTensor.From<float>(new float[120], s_shape, new TensorStrides(0, 20, 5, 1));
        Assert.Multiple(() =>
        {
            Assert.That(() => source.CopyTo(readOnly), Throws.ArgumentException.With.Message.Contains("read-only"));
            Assert.That(() => source.CopyTo(repeated), Throws.ArgumentException.With.Message.Contains("[0, 20, 5, 1]"));
        });
    }

    [Test]
    public void A_copy_to_another_type_or_shape_is_refused()
    {
        using AttentionTensor source = AttentionTensor.Allocate(TensorType.Float32, s_shape);
        using AttentionTensor target = AttentionTensor.Allocate(TensorType.Float64, s_shape);
        Assert.That(
            () => source.CopyTo(target),
            Throws.ArgumentException.With.Message.Contains("Float64").And.Message.Contains("it has to be Float32 [2, 3, 4, 5]"));
    }

    [Test]
    public void Device_memory_of_a_host_device_is_refused()
    {
        Assert.That(
            () => AttentionTensor.FromDevicePointer(4096, AttentionDevice.Cpu, TensorType.Float32, s_shape),
            Throws.ArgumentException.With.Message.Contains("'cpu'"));
        Assert.That(
            () => AttentionTensor.FromDevicePointer(0, AttentionDevice.Cpu, TensorType.Float32, s_shape),
            Throws.ArgumentException.With.Message.Contains("pointer is 0"));
    }

    private static double[] Elements(AttentionTensor tensor)
    {
        if (tensor.Type != TensorType.Int32)
        {
            return Values.Doubles(tensor);
        }

        using AttentionTensor dense = tensor.ToHost();
        return Array.ConvertAll(dense.AsSpan<int>().ToArray(), value => (double)value);
    }

    private static void Fill(AttentionTensor tensor, Func<int, double> value)
    {
        if (tensor.Type == TensorType.Int32)
        {
            Span<int> elements = tensor.AsSpan<int>();
            for (int i = 0; i < elements.Length; i++)
            {
                elements[i] = (int)value(i);
            }

            return;
        }

        HostArray<double> array = new(tensor.Shape);
        for (int i = 0; i < array.Data.Length; i++)
        {
            array.Data[i] = value(i);
        }

        array.WriteTo(tensor);
    }

    private sealed class CountingStorage : TensorStorage
    {
        public int Freed { get; private set; }

        protected override void Free() => Freed++;
    }
}
