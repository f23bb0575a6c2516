using SieveAttention.Cli.Cases;
using SieveAttention.Cpu.Tiles;
using SieveAttention.Interop;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>What the device reaches at most, measured in the same run.</summary>
/// <param name="Bandwidth">Bytes read and written in a second by a copy within its memory.</param>
/// <param name="Rate">Floating-point operations in a second.</param>
/// <param name="RateKind">What <paramref name="Rate"/> was measured with.</param>
internal sealed record BenchCeilings(double Bandwidth, double Rate, string RateKind)
{
    private const int Runs = 15;

    /// <summary>Bytes of the scratch memory on a GPU; a copy goes from one half to the other.</summary>
    private const int ScratchBytes = 1 << 30;

    private const int HostCopyFloats = 1 << 25;

    /// <summary>Scratch memory for a GPU, as Float32.</summary>
    public static AttentionTensor? Scratch(AttentionDevice device) => device is CudaDevice
        ? AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 1, 1 << 12, ScratchBytes / sizeof(float) >> 12), device)
        : null;

    /// <summary>Measures them.</summary>
    /// <param name="device">Where.</param>
    /// <param name="type">Type of the operands on a GPU; the CPU computes in float32.</param>
    /// <param name="scratch">On a GPU: what <see cref="Scratch"/> gave.</param>
    public static BenchCeilings Measure(AttentionDevice device, TensorType type, AttentionTensor? scratch) =>
        device is CudaDevice cuda ? OnCuda(cuda, type, scratch!) : OnHost(device);

    private static BenchCeilings OnCuda(CudaDevice device, TensorType type, AttentionTensor scratch)
    {
        const int Half = ScratchBytes / 2;
        device.Fill(scratch.DevicePointer, 0x35, ScratchBytes, stream: null);
        BenchTiming copy = BenchTiming.Of(device, Runs, scratch, _ => device.Copy(
            scratch.DevicePointer + Half, scratch.DevicePointer, Half, SieveCopyKind.OnDevice, stream: null));
        double operations = 0;
        BenchTiming multiply = BenchTiming.Of(
            device, Runs, scratch, _ => operations = device.RunProducts(KernelPath.Automatic, type));
        return new BenchCeilings(
            2.0 * Half / copy.Median,
            operations / multiply.Median,
            $"{StoredTypes.Name(type)} matrix products that stay on the multiprocessors");
    }

    private static BenchCeilings OnHost(AttentionDevice device)
    {
        int threads = Environment.ProcessorCount;
        float[] source = new float[HostCopyFloats];
        float[] target = new float[HostCopyFloats];
        Array.Fill(source, 0.3f);
        int piece = HostCopyFloats / threads;
        BenchTiming copy = BenchTiming.Of(device, Runs, null, _ => OnThreads(
            threads, thread => source.AsSpan(thread * piece, piece).CopyTo(target.AsSpan(thread * piece, piece))));
        RegisterLoop loop = new(1_000_000);
        BenchTiming multiply = BenchTiming.Of(device, Runs, null, _ => OnThreads(threads, _ => LaneChoice.Run(loop)));
        return new BenchCeilings(
            2.0 * sizeof(float) * piece * threads / copy.Median,
            loop.Operations(LaneChoice.Widest) * threads / multiply.Least,
            "fused multiply-adds of registers on all cores");
    }

    private static void OnThreads(int threads, Action<int> action) =>
        Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, action);
}
