using System.Diagnostics;

namespace SieveAttention.Cli.Cases;

/// <summary>Runs a pass of an operator and measures it.</summary>
internal static class CaseTiming
{
    private const int DeviceRepeats = 5;

    /// <summary>
    /// Runs a pass. On the host its only run is measured. On a GPU the first run, which loads the kernel, is not: the time is the
    /// median of further runs into the same tensors, between two events of the device.
    /// </summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="first">Runs into new tensors.</param>
    /// <param name="again">Runs into given tensors, without allocating; used on a GPU only.</param>
    public static (T Result, TimeSpan Time) Measure<T>(AttentionDevice device, Func<T> first, Action<T> again)
    {
        Stopwatch watch = Stopwatch.StartNew();
        T result = first();
        watch.Stop();
        if (device is not CudaDevice cuda)
        {
            return (result, watch.Elapsed);
        }
        using DeviceTimer timer = new(cuda);
        List<float> times = [];
        for (int repeat = 0; repeat < DeviceRepeats; repeat++)
        {
            timer.Start();
            again(result);
            timer.Stop();
            times.Add(timer.Elapsed());
        }
        times.Sort();
        return (result, TimeSpan.FromMilliseconds(times[DeviceRepeats / 2]));
    }
}
