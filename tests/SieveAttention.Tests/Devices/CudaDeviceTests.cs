using Microsoft.Extensions.Logging;
using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Devices;

internal sealed class CudaDeviceTests : GpuFixture
{
    private static readonly TensorShape s_shape = new(2, 3, 5, 16);

    [Test]
    public void A_device_describes_itself()
    {
        TestContext.Out.WriteLine(SieveDiagnostics.Describe());
        Assert.Multiple(() =>
        {
            Assert.That(Device.Info.Name, Is.Not.Empty);
            Assert.That(Device.Info.CapabilityMajor, Is.GreaterThan(0));
            Assert.That(Device.Info.MemoryBytes, Is.GreaterThan(1L << 30));
            Assert.That(Device.Name, Is.EqualTo("cuda:0"));
            Assert.That(CudaDevice.Count, Is.GreaterThan(0));
        });
    }

    [Test]
    public void An_ordinal_that_does_not_exist_is_refused_with_the_number() =>
        Assert.That(() => AttentionDevice.Cuda(97), Throws.ArgumentException.With.Message.Contains("97"));

    [Test]
    public void Messages_of_the_library_arrive_in_the_callers_logger()
    {
        using RecordingLogger logger = new();
        using (CudaDevice device = AttentionDevice.Cuda(0, logger))
        {
            ThresholdCase test = new("log") { HeadDim = 64, ValueDim = 64 };
            using DeviceInputs inputs = new(test.Inputs(TensorType.BFloat16), device);
            new ThresholdDifferentialAttention(device, test.Options).Forward(inputs.Tensors).Dispose();
        }

        TestContext.Out.WriteLine(string.Join(Environment.NewLine, logger.Entries));
        Assert.That(logger.Entries.Where(entry => entry.Message.Contains("tda forward", StringComparison.Ordinal)), Is.Not.Empty);
        Assert.That(logger.Entries.Any(entry => entry.Level >= LogLevel.Warning), Is.False);
    }

    [Test]
    public void Tensors_survive_the_way_to_the_device_and_back([Values] TensorType type)
    {
        using AttentionTensor host = AttentionTensor.Allocate(type, s_shape);
        FillBytes(host);
        using AttentionTensor device = host.To(Device);
        using AttentionTensor copy = device.To(Device);
        using AttentionTensor back = copy.ToHost();
        Assert.That(Bytes(back), Is.EqualTo(Bytes(host)));
        Assert.That(device.Device, Is.SameAs(Device));
        Assert.That(() => device.AsMemory<float>(), Throws.InvalidOperationException.With.Message.Contains("cuda:0"));
    }

    [Test]
    public void Strided_views_are_copied_element_by_element_and_leave_gaps_alone()
    {
        using AttentionTensor host = Values.Tensor(Values.Normal(new Random(1), s_shape.Count), s_shape, TensorType.Float32);
        using AttentionTensor hostView = host.Permute(0, 2, 1, 3);
        using AttentionTensor large = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(2, 7, 3, 20), Device);
        Device.Fill(large.DevicePointer, 0xFF, (ulong)large.Shape.Count * sizeof(float), null);
        using AttentionTensor rows = large.Slice(1, 1, 5);
        using AttentionTensor target = rows.Slice(3, 2, 16);
        hostView.CopyTo(target);
        using AttentionTensor back = target.ToHost();
        Assert.That(Values.Doubles(back), Is.EqualTo(Values.Doubles(hostView)));
        using AttentionTensor all = large.ToHost();
        Assert.That(all.AsSpan<float>().ToArray().Count(float.IsNaN), Is.EqualTo(large.Shape.Count - s_shape.Count));
    }

    [Test]
    public void Tensors_and_streams_may_outlive_the_device_object()
    {
        CudaDevice device = AttentionDevice.Cuda();
        AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape, device);
        AttentionStream stream = device.CreateStream();
        DeviceWorkspace workspace = new(device);
        workspace.Reserve(1 << 20);
        device.Dispose();
        Assert.That(
            () => tensor.ToHost(), Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(CudaDevice)), "no new work");
        Assert.That(() =>
        {
            workspace.Dispose();
            tensor.Dispose();
            stream.Dispose();
        }, Throws.Nothing);
    }

    [Test]
    public void Released_handles_are_named()
    {
        AttentionStream stream = Device.CreateStream();
        stream.Dispose();
        AttentionTensor tensor = AttentionTensor.Allocate(TensorType.Float32, s_shape, Device);
        tensor.Dispose();
        Assert.Multiple(() =>
        {
            Assert.That(stream.Synchronize, Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(AttentionStream)));
            Assert.That(() => tensor.ToHost(), Throws.TypeOf<ObjectDisposedException>().With.Message.Contains(nameof(AttentionTensor)));
        });
    }

    [Test]
    public void Memory_and_streams_that_nobody_disposed_are_collected()
    {
        for (int round = 0; round < 20; round++)
        {
            Abandon();
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        Device.CreateStream().Dispose();

        void Abandon()
        {
            CudaDevice device = AttentionDevice.Cuda();
            _ = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 1024, 1024), device);
            _ = device.CreateStream();
        }
    }

    [Test]
    public void A_timer_measures_device_time()
    {
        using AttentionStream stream = Device.CreateStream();
        using AttentionTensor memory = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 1 << 14, 1 << 14), Device);
        using DeviceTimer timer = new(Device);
        timer.Start(stream);
        for (int i = 0; i < 10; i++)
        {
            Device.Fill(memory.DevicePointer, 0, 1UL << 30, stream);
        }

        timer.Stop(stream);
        float milliseconds = timer.Elapsed();
        // 10 GiB at no less than 20 GB/s and no more than 50 TB/s.
        Assert.That(milliseconds, Is.InRange(0.2f, 500f));
    }

    [Test]
    public void A_workspace_grows_and_is_reused()
    {
        using DeviceWorkspace workspace = new(Device);
        nint first = workspace.Pointer(1000);
        Assert.That(workspace.Pointer(10), Is.EqualTo(first));
        Assert.That(workspace.Bytes, Is.EqualTo(1000));
        workspace.Reserve(100_000);
        Assert.That(workspace.Bytes, Is.EqualTo(100_000));
    }

    [Test]
    public void An_unsupported_head_dim_is_refused_with_the_nearest_supported()
    {
        Assert.That(Supports(TensorType.BFloat16, 72, out string reason), Is.False);
        Assert.That(reason, Does.Contain("head_dim 72").And.Contain("nearest supported").And.Contain("64"));
        Assert.That(Supports(TensorType.BFloat16, 64, out reason), reason);
        Assert.That(Supports(TensorType.Float64, 64, out reason), Is.False);
        Assert.That(reason, Does.Contain("Float64"));

        bool Supports(TensorType type, int headDim, out string reason) => Device.Supports(
            AttentionOperation.ThresholdDifferential, AttentionDirection.Forward, type, headDim, headDim, out reason);
    }

    private static void FillBytes(AttentionTensor tensor)
    {
        byte[] bytes = new byte[tensor.Shape.Count * TensorTypes.Size(tensor.Type)];
        new Random(7).NextBytes(bytes);
        using System.Buffers.MemoryHandle pin = ((HostStorage)tensor.Storage).Pin();
        Copy(bytes, pin);

        static unsafe void Copy(byte[] bytes, System.Buffers.MemoryHandle pin) =>
            bytes.CopyTo(new Span<byte>(pin.Pointer, bytes.Length));
    }

    private static byte[] Bytes(AttentionTensor tensor)
    {
        using System.Buffers.MemoryHandle pin = ((HostStorage)tensor.Storage).Pin();
        return Copy(pin, (int)(tensor.Shape.Count * TensorTypes.Size(tensor.Type)));

        static unsafe byte[] Copy(System.Buffers.MemoryHandle pin, int length) => new Span<byte>(pin.Pointer, length).ToArray();
    }
}
