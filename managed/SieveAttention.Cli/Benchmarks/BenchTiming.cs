using System.Diagnostics;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>Times of repeated runs, in seconds.</summary>
internal sealed class BenchTiming
{
    /// <summary>A series on the host clock ends after this many seconds, if it has at least three runs.</summary>
    private const double LongestHostSeries = 3;

    /// <summary>Bytes that are filled before a series on a GPU: the host gets ahead of it, so that no launch is waited for.</summary>
    private const ulong HeadStart = 8UL << 30;

    private readonly double[] _sorted;

    /// <summary>Takes the times of at least one run.</summary>
    public BenchTiming(IEnumerable<double> seconds)
    {
        _sorted = [.. seconds.Order()];
    }

    /// <summary>Number of runs.</summary>
    public int Runs => _sorted.Length;

    /// <summary>The middle one.</summary>
    public double Median => Quantile(0.5);

    /// <summary>Fastest run.</summary>
    public double Least => _sorted[0];

    /// <summary>One run in ten is faster.</summary>
    public double Low => Quantile(0.1);

    /// <summary>One run in ten is slower.</summary>
    public double High => Quantile(0.9);

    /// <summary>Half the distance from <see cref="Low"/> to <see cref="High"/>, relative to the median.</summary>
    public double Spread => (High - Low) / 2 / Median;

    /// <summary>Runs after a warm-up, in device time on a GPU and on the host clock elsewhere.</summary>
    /// <param name="device">Where.</param>
    /// <param name="runs">Runs to measure; fewer where they are long on the host clock.</param>
    /// <param name="scratch">On a GPU: memory to fill before the series.</param>
    /// <param name="run">One run, with its number.</param>
    public static BenchTiming Of(AttentionDevice device, int runs, AttentionTensor? scratch, Action<int> run) =>
        device is CudaDevice cuda ? OnDevice(cuda, runs, scratch!, run) : OnHost(runs, run);

    private static BenchTiming OnDevice(CudaDevice device, int runs, AttentionTensor scratch, Action<int> run)
    {
        const int WarmUp = 3;
        for (int n = 0; n < WarmUp; n++)
        {
            run(n);
        }
        List<DeviceTimer> timers = [];
        try
        {
            for (int n = 0; n < runs; n++)
            {
                timers.Add(new DeviceTimer(device));
            }
            ulong bytes = (ulong)scratch.Shape.Count * sizeof(float);
            for (ulong filled = 0; filled < HeadStart; filled += bytes)
            {
                device.Fill(scratch.DevicePointer, 1, bytes, stream: null);
            }
            for (int n = 0; n < runs; n++)
            {
                timers[n].Start();
                run(n);
                timers[n].Stop();
            }
            return new BenchTiming([.. timers.Select(timer => timer.Elapsed() / 1e3)]);
        }
        finally
        {
            timers.ForEach(timer => timer.Dispose());
        }
    }

    private static BenchTiming OnHost(int runs, Action<int> run)
    {
        // Until tiered compilation has finished with what runs often: on two cores a forward of 20 ms takes four seconds to get there.
        const double WarmUpSeconds = 5;
        const int WarmUpRuns = 200;
        long start = Stopwatch.GetTimestamp();
        for (int n = 0; n == 0 || (n < WarmUpRuns && Stopwatch.GetElapsedTime(start).TotalSeconds < WarmUpSeconds); n++)
        {
            run(n);
        }
        List<double> times = [];
        start = Stopwatch.GetTimestamp();
        while (times.Count < runs && (times.Count < 3 || Stopwatch.GetElapsedTime(start).TotalSeconds < LongestHostSeries))
        {
            long before = Stopwatch.GetTimestamp();
            run(times.Count);
            times.Add(Stopwatch.GetElapsedTime(before).TotalSeconds);
        }
        return new BenchTiming(times);
    }

    private double Quantile(double part)
    {
        double place = part * (_sorted.Length - 1);
        int below = (int)place;
        int above = Math.Min(below + 1, _sorted.Length - 1);
        return _sorted[below] + ((place - below) * (_sorted[above] - _sorted[below]));
    }
}
