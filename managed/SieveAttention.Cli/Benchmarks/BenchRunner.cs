using SieveAttention.Cli.Output;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>Measures ceilings and rows one after the other on one device.</summary>
internal sealed class BenchRunner(AttentionDevice device, int runs, Progress progress) : IDisposable
{
    private const int MostSets = 16;

    /// <summary>More than the last cache of most processors.</summary>
    private const double HostCacheBytes = 64 << 20;

    private readonly AttentionTensor? _scratch = BenchCeilings.Scratch(device);
    private readonly RandomTensors _random = new(device);

    /// <summary>Measures the ceilings, on a GPU with operands of a type.</summary>
    public BenchCeilings Ceilings(TensorType type)
    {
        progress.Step($"{device.Name}: ceilings");
        return BenchCeilings.Measure(device, type, _scratch);
    }

    /// <summary>Measures one row.</summary>
    /// <param name="subject">The operator.</param>
    /// <param name="setup">What to measure.</param>
    /// <param name="required">Whether something that the device does not run is an error instead of a row without times.</param>
    /// <exception cref="NotSupportedException">The row is required, and the device does not run it.</exception>
    public BenchRow Measure(BenchOperator subject, BenchSetup setup, bool required)
    {
        progress.Step($"{device.Name}: {subject.Name} {setup.Direction.ToString().ToLowerInvariant()} {setup.Shape}");
        int sets = Sets(subject.SetBytes(setup));
        BenchWork work = subject.Work(setup);
        try
        {
            using BenchCall call = subject.Prepare(setup, _random, sets);
            BenchTiming timing = BenchTiming.Of(device, runs, _scratch, run => call.Run(run % sets));
            return new BenchRow(subject.Name, setup, Path(subject, setup), sets, timing, work, subject.Note(setup));
        }
        catch (NotSupportedException error) when (!required)
        {
            return new BenchRow(subject.Name, setup, "-", sets, null, work, Text.OneLine(error.Message));
        }
    }

    /// <summary>Gives scratch memory and random values back.</summary>
    public void Dispose()
    {
        _scratch?.Dispose();
        _random.Dispose();
    }

    /// <summary>Together twice the cache, so that no set is found in it when its turn comes again.</summary>
    private int Sets(double bytes)
    {
        double cache = device is CudaDevice cuda ? cuda.Info.CacheBytes : HostCacheBytes;
        return (int)Math.Clamp(Math.Ceiling(2 * cache / bytes), 1, MostSets);
    }

    private string Path(BenchOperator subject, BenchSetup setup)
    {
        if (device is not CudaDevice cuda)
        {
            return device.Kind == AttentionDeviceKind.Cpu ? $"{32 * LaneChoice.Widest}-bit" : "-";
        }
        if (setup.Kernels.Path != KernelPath.Automatic)
        {
            return setup.Kernels.Path.ToString().ToLowerInvariant();
        }
        // The library takes the family of the newest devices that runs here.
        bool hopper = cuda.Supports(
            subject.Operation, setup.Direction, KernelPath.Hopper, setup.Type, setup.Shape.HeadDim, setup.Shape.ValueDim, out _);
        return (hopper ? KernelPath.Hopper : KernelPath.Generic).ToString().ToLowerInvariant();
    }
}
