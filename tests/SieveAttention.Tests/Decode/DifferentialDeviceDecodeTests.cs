using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>
/// Decode of both versions of differential attention on a CUDA device: every row is what the float64 forward pass gives for it, contiguous and
/// paged.
/// </summary>
[TestFixture(TensorType.BFloat16, false, 0.02)]
[TestFixture(TensorType.Float16, true, 0.004)]
internal sealed class DifferentialDeviceDecodeTests(TensorType type, bool paged, double tolerance) : GpuFixture
{
    private const int Rows = 2;

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.2 };

    [Test]
    public void The_first_version_gives_what_forward_gives()
    {
        DifferentialCase test = new("decode")
        {
            Batch = 3, QueryHeads = 4, Queries = Rows, Keys = 517, HeadDim = 64, ValueDim = 128, Gate = true,
            Options = new() { Lambda = [0.3, 0, 0.8, -0.2], Epilogue = s_norm },
        };
        DifferentialInputs host = test.Inputs(type);
        host = host with { Gate = Values.Tensor(Values.Doubles(host.Gate!), host.Gate!.Shape, TensorType.Float32) };
        using DifferentialResult expected = test.Operator().Forward(host);
        using DeviceCopies copies = new(Device);
        using DeviceKeyValueCache cache = Cache(test.Batch, test.KeyHeads, 2 * test.HeadDim, test.ValueDim);
        using AttentionTensor keys = SideBySide(host.Key1, host.Key2);
        cache.Append(keys, host.Value);
        using DifferentialResult actual = test.Operator(Device).Decode(
            new DifferentialDecodeInputs
            {
                Query1 = copies.Of(host.Query1), Query2 = copies.Of(host.Query2), Gate = copies.OfOptional(host.Gate),
            },
            cache);
        AssertClose("output", actual.Output, expected.Output);
        AssertClose("lse1", actual.LogSumExp1, expected.LogSumExp1);
        AssertClose("lse2", actual.LogSumExp2, expected.LogSumExp2);
    }

    [Test]
    public void The_second_version_gives_what_forward_gives()
    {
        GroupedDifferentialCase test = new("decode")
        {
            Batch = 3, Groups = 4, Queries = Rows, Keys = 517, HeadDim = 128, ValueDim = 128, Options = new() { Signals = 2 },
        };
        GroupedDifferentialInputs host = test.Inputs(type);
        host = host with { LambdaLogit = Values.Tensor(Values.Doubles(host.LambdaLogit), host.LambdaLogit.Shape, TensorType.Float32) };
        using GroupedDifferentialResult expected = test.Operator().Forward(host);
        using DeviceCopies copies = new(Device);
        using DeviceKeyValueCache cache = Cache(test.Batch, test.KeyHeads, test.HeadDim, test.ValueDim);
        cache.Append(host.Key, host.Value);
        using AttentionStream stream = Device.CreateStream();
        using DeviceWorkspace workspace = new(Device);
        using GroupedDifferentialResult actual = new(
            AttentionTensor.Allocate(TensorType.Float32, test.OutputShape, Device),
            AttentionTensor.Allocate(TensorType.Float32, test.QueryShape with { Channels = 1 }, Device));
        AttentionStream.FromPointer(Device, 0).Synchronize();
        test.Operator(Device).Decode(
            new GroupedDifferentialDecodeInputs { Query = copies.Of(host.Query), LambdaLogit = copies.Of(host.LambdaLogit) },
            cache,
            actual,
            stream,
            workspace);
        stream.Synchronize();
        AssertClose("output", actual.Output, expected.Output);
        AssertClose("lse", actual.LogSumExp, expected.LogSumExp);
    }

    [Test]
    public void Keys_of_one_view_are_refused_by_the_first_version()
    {
        DifferentialCase test = new("one view") { Queries = 1, Keys = 20, HeadDim = 64, ValueDim = 64 };
        DifferentialInputs host = test.Inputs(type);
        using DeviceCopies copies = new(Device);
        using DeviceKeyValueCache cache = Cache(test.Batch, test.KeyHeads, test.HeadDim, test.ValueDim);
        cache.Append(host.Key1, host.Value);
        Assert.That(
            () => test.Operator(Device).Decode(
                new DifferentialDecodeInputs { Query1 = copies.Of(host.Query1), Query2 = copies.Of(host.Query2) }, cache),
            Throws.ArgumentException.With.Message.Contains("2 head_dim"));
    }

    private DeviceKeyValueCache Cache(int sequences, int heads, int headDim, int valueDim)
    {
        KeyValueCacheLayout layout = new(sequences, heads, headDim, valueDim) { Type = type };
        return paged
            ? DeviceKeyValueCache.Paged(Device, layout, pageSize: 64, pages: 40)
            : DeviceKeyValueCache.Contiguous(Device, layout, capacity: 600);
    }

    private AttentionTensor SideBySide(AttentionTensor first, AttentionTensor second)
    {
        int channels = first.Shape.Channels;
        AttentionTensor both = AttentionTensor.Allocate(type, first.Shape with { Channels = 2 * channels });
        using AttentionTensor left = both.Slice(3, 0, channels);
        using AttentionTensor right = both.Slice(3, channels, channels);
        first.CopyTo(left);
        second.CopyTo(right);
        return both;
    }

    private void AssertClose(string name, AttentionTensor actual, AttentionTensor expected)
    {
        using AttentionTensor host = actual.ToHost();
        Deviation deviation = Deviation.Of(Values.Doubles(host), Values.Doubles(expected));
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{name}: {deviation}");
    }
}
