using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Tensors;

internal sealed class HostArrayTests
{
    private static readonly TensorShape s_shape = new(2, 2, 3, 37);

    [Test]
    public void Reading_widens_every_float_type_exactly(
        [Values(TensorType.Float64, TensorType.Float32, TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        double[] values = Values.Normal(new Random(1), s_shape.Count);
        using AttentionTensor tensor = Values.Tensor(values, s_shape, type);
        double[] rounded = Array.ConvertAll(values, value => Values.Round(value, type));
        Assert.That(HostArray<double>.Read(tensor).Data, Is.EqualTo(rounded));
        Assert.That(HostArray<float>.Read(tensor).Data, Is.EqualTo(Array.ConvertAll(rounded, value => (float)value)));
    }

    [Test]
    public void Reading_follows_any_strides([Values(TensorType.Float64, TensorType.BFloat16)] TensorType type)
    {
        using AttentionTensor dense = Values.Tensor(Values.Normal(new Random(2), s_shape.Count), s_shape, type);
        using AttentionTensor transposed = dense.Permute(1, 0, 3, 2);
        HostArray<double> plain = HostArray<double>.Read(dense);
        HostArray<double> read = HostArray<double>.Read(transposed);
        for (int c = 0; c < 37; c++)
        {
            Assert.That(read.Row(1, 0, c)[2], Is.EqualTo(plain.Row(0, 1, 2)[c]));
        }
    }

    [Test]
    public void Writing_rounds_once([Values(TensorType.Float32, TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        HostArray<double> array = Values.NormalArray(new Random(3), s_shape);
        // Just above the middle of two neighbours of the 16-bit types: a second rounding would fall to the middle first.
        array.Data[0] = type == TensorType.Float16 ? 1 + Math.ScaleB(1, -11) + 1e-12 : 1 + Math.ScaleB(1, -8) + 1e-12;
        using AttentionTensor tensor = AttentionTensor.Allocate(type, s_shape);
        array.WriteTo(tensor);
        Assert.That(Values.Doubles(tensor), Is.EqualTo(Array.ConvertAll(array.Data, value => Values.Round(value, type))));
    }

    [Test]
    public void Writing_from_float_gives_the_same_as_from_double([Values(TensorType.Float16, TensorType.BFloat16)] TensorType type)
    {
        HostArray<float> array = new(s_shape);
        double[] values = Values.Normal(new Random(4), s_shape.Count);
        for (int i = 0; i < values.Length; i++)
        {
            array.Data[i] = (float)values[i];
        }

        using AttentionTensor tensor = AttentionTensor.Allocate(type, s_shape);
        array.WriteTo(tensor);
        Assert.That(Values.Doubles(tensor), Is.EqualTo(Array.ConvertAll(array.Data, value => Values.Round(value, type))));
    }

    [Test]
    public void Writing_leaves_the_gaps_of_a_strided_tensor_alone()
    {
        float[] memory = new float[1000];
        Array.Fill(memory, 7);
        TensorShape shape = new(1, 2, 3, 4);
        using AttentionTensor tensor = AttentionTensor.From<float>(memory, shape, new TensorStrides(500, 100, 20, 3));
        HostArray<double> array = new(shape);
        array.WriteTo(tensor);
        Assert.That(memory.Count(value => value == 0), Is.EqualTo(24));
        Assert.That(memory.Count(value => value == 7), Is.EqualTo(1000 - 24));
    }

    [Test]
    public void Integers_are_refused()
    {
        using AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Int32, s_shape);
        Assert.That(() => HostArray<double>.Read(tensor), Throws.ArgumentException.With.Message.Contains("Int32"));
    }
}
