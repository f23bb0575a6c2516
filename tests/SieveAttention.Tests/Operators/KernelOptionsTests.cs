using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>What has a meaning on CUDA devices only, as the host devices see it.</summary>
internal sealed class KernelOptionsTests
{
    private static readonly OneViewCase s_case = new("host");

    [Test]
    public void Options_out_of_range_are_refused_by_name()
    {
        Assert.Multiple(() =>
        {
            Assert.That(
                () => Attention(new KernelOptions { Path = (KernelPath)7 }),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("Path is 7; allowed: Automatic, Generic, Hopper"));
            Assert.That(
                () => Attention(new KernelOptions { Repeatability = (Repeatability)2 }),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("allowed: Fastest, Bitwise"));
            Assert.That(
                () => Attention(new KernelOptions { DecodeSplits = 1025 }),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("DecodeSplits is 1025; allowed: 0 to 1024"));
            Assert.That(
                () => new ThresholdDifferentialAttention(
                    AttentionDevice.Cpu, new ThresholdDifferentialOptions { Kernels = new KernelOptions { DecodeSplits = -1 } }),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("DecodeSplits is -1"));
        });
    }

    [Test]
    public void Host_devices_give_the_same_whatever_is_asked_of_kernels()
    {
        AttentionInputs inputs = s_case.Inputs(s_case.Variables());
        using SoftmaxResult plain = Attention(new KernelOptions()).Forward(inputs);
        using SoftmaxResult asked = Attention(
            new KernelOptions { Path = KernelPath.Hopper, Repeatability = Repeatability.Bitwise, DecodeSplits = 3 }).Forward(inputs);
        Assert.That(Values.Doubles(asked.Output), Is.EqualTo(Values.Doubles(plain.Output)));
    }

    [Test]
    public void Host_devices_name_the_devices_that_have_what_they_lack()
    {
        SoftmaxAttention attention = Attention(new KernelOptions());
        AttentionInputs inputs = s_case.Inputs(s_case.Variables());
        AttentionTensor lengths = AttentionTensor.From<int>(new int[1], new TensorShape(1, 1, 1, 1));
        PackedSequences packed = new([0, s_case.Queries], [0, s_case.Keys]);
        using SoftmaxResult result = attention.Forward(inputs);
        using AttentionGradients gradients = attention.Backward(inputs, s_case.OutputGradient());
        CachedKeys cache = new() { Key = inputs.Key, Value = inputs.Value };
        Assert.Multiple(() =>
        {
            AssertCudaOnly(() => attention.Forward(inputs with { KeyLengths = lengths }), "(KeyLengths)");
            AssertCudaOnly(() => attention.Backward(inputs with { KeyLengths = lengths }, s_case.OutputGradient()), "(KeyLengths)");
            AssertCudaOnly(() => attention.Backward(inputs, result, s_case.OutputGradient(), gradients), "into given tensors");
            AssertCudaOnly(() => attention.AllocateGradients(inputs), "Tensors for the gradients");
            AssertCudaOnly(() => attention.Forward(inputs, packed, result), "into given tensors");
            AssertCudaOnly(() => attention.Decode(new DecodeInputs { Query = inputs.Query }, cache, result), "cache in device memory");
        });
    }

    [Test]
    public void Gradients_that_were_not_computed_say_so()
    {
        using RowFactorGradients gradients = RowFactorGradients.OfHeads(
            AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 2, 1, 1)));
        Assert.That(() => gradients.Values, Throws.InvalidOperationException.With.Message.Contains("give the object to Backward first"));
        Assert.That(gradients.Exponents, Is.Empty);
    }

    [Test]
    public void Values_of_heads_are_summed_where_the_row_factor_has_one_value()
    {
        RowFactorGradients Heads() => RowFactorGradients.OfHeads(
            AttentionTensor.From<float>(new float[] { 1, 2, 4 }, new TensorShape(1, 3, 1, 1)),
            AttentionTensor.From<float>(new float[] { 8, 16, 32 }, new TensorShape(1, 3, 1, 1)));
        using RowFactorGradients common = Heads();
        using RowFactorGradients own = Heads();
        common.Written(RowFactor.Asentmax(0.5, 0.7), stream: null);
        own.Written(RowFactor.Asentmax([0.5, 0.5, 0.5], [0.7, 0.7, 0.7]), stream: null);
        Assert.That(common.Values, Is.EqualTo((double[])[7]));
        Assert.That(common.Exponents, Is.EqualTo((double[])[56]));
        Assert.That(own.Values, Is.EqualTo((double[])[1, 2, 4]));
        Assert.That(own.Exponents, Is.EqualTo((double[])[8, 16, 32]));
    }

    private static SoftmaxAttention Attention(KernelOptions kernels) =>
        new(AttentionDevice.Cpu, new SoftmaxOptions { Kernels = kernels });

    private static void AssertCudaOnly(Action call, string what) => Assert.That(
        call, Throws.TypeOf<NotSupportedException>().With.Message.Contains(what).And.Message.Contains("devices that have it: Cuda"));
}
