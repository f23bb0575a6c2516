using System.Diagnostics;

namespace SieveAttention.Cli.Cases;

/// <summary>Runs a pass of an operator and measures it.</summary>
internal static class CaseTiming
{
    private const int Repeats = 5;

    /// <summary>A first run on the Cpu device longer than this is not repeated.</summary>
    private static readonly TimeSpan s_longRun = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Runs a pass. The time is that of the first run on the Reference device; on the Cpu device, where short runs would show
    /// compilation, and on a GPU, where the first run loads the kernel, it is the median of further runs: host time on the Cpu
    /// device, between two events of the stream on a GPU.
    /// </summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="first">Runs into new tensors.</param>
    /// <param name="again">Runs into given tensors, without allocating device memory.</param>
    public static (T Result, TimeSpan Time) Measure<T>(AttentionDevice device, Func<T> first, Action<T> again)
    {
        Stopwatch watch = Stopwatch.StartNew();
        T result = first();
        TimeSpan firstTime = watch.Elapsed;
        TimeSpan time = device switch
        {
            CudaDevice cuda => OnDevice(cuda, () => again(result)),
            { Kind: AttentionDeviceKind.Cpu } when firstTime < s_longRun => Median(() => OnHost(() => again(result))),
            _ => firstTime,
        };
        return (result, time);
    }

    private static TimeSpan OnHost(Action run)
    {
        Stopwatch watch = Stopwatch.StartNew();
        run();
        return watch.Elapsed;
    }

    private static TimeSpan OnDevice(CudaDevice device, Action run)
    {
        using DeviceTimer timer = new(device);
        return Median(() =>
        {
            timer.Start();
            run();
            timer.Stop();
            return TimeSpan.FromMilliseconds(timer.Elapsed());
        });
    }

    private static TimeSpan Median(Func<TimeSpan> measure)
    {
        TimeSpan[] times = [.. Enumerable.Range(0, Repeats).Select(_ => measure())];
        Array.Sort(times);
        return times[Repeats / 2];
    }
}
