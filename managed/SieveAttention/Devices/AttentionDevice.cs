using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>Where attention is computed. The caller chooses; no operator changes the device by itself.</summary>
/// <remarks>
/// Thread-safe. <see cref="Reference"/> and <see cref="Cpu"/> are shared and need no disposal; a <see cref="CudaDevice"/> is owned
/// by who made it.
/// </remarks>
public abstract class AttentionDevice : IDisposable
{
    private protected AttentionDevice(AttentionDeviceKind kind, string name)
    {
        Kind = kind;
        Name = name;
    }

    /// <summary>
    /// Float64, plain loops, one thread: the definition of every operator. Takes host tensors of any floating-point type.
    /// </summary>
    public static AttentionDevice Reference { get; } = new HostDevice(AttentionDeviceKind.Reference, "reference");

    /// <summary>Float32, vectorized, all cores. Takes host tensors of any floating-point type.</summary>
    public static AttentionDevice Cpu { get; } = new HostDevice(AttentionDeviceKind.Cpu, "cpu");

    /// <summary>Which implementation this is.</summary>
    public AttentionDeviceKind Kind { get; }

    /// <summary>"reference", "cpu", "cuda:0", ...; accepted by <see cref="Parse"/>.</summary>
    public string Name { get; }

    /// <summary>Opens a CUDA device.</summary>
    /// <param name="ordinal">CUDA number of the device, from 0.</param>
    /// <param name="loggers">Receives the messages of this device and of the native library (category "SieveAttention").</param>
    /// <returns>The device; dispose it after use.</returns>
    /// <exception cref="PlatformNotSupportedException">
    /// No native library (the message lists every path tried), no kernels in it, no driver, or no GPU.
    /// </exception>
    /// <exception cref="ArgumentException">There is no device of that number.</exception>
    public static CudaDevice Cuda(int ordinal = 0, ILoggerFactory? loggers = null) => CudaDevice.Open(ordinal, loggers);

    /// <summary>
    /// Opens CUDA device 0 where it can be had, else returns <see cref="Cpu"/> and logs a warning that says why.
    /// </summary>
    /// <param name="loggers">Receives what was chosen and why, and the later messages of the device.</param>
    /// <returns>The device.</returns>
    public static AttentionDevice Best(ILoggerFactory? loggers = null)
    {
        ILogger logger = LoggerFor(loggers);
        if (CudaDevice.IsAvailable(out string reason))
        {
            CudaDevice device = Cuda(0, loggers);
            string description = device.Describe();
            DeviceLog.ChoseDevice(logger, description);

            return device;
        }

        DeviceLog.ChoseCpu(logger, reason);
        return Cpu;
    }

    /// <summary>Opens the device of a name.</summary>
    /// <param name="text">"reference", "cpu", "cuda" (device 0) or "cuda:N".</param>
    /// <param name="loggers">Receives the messages of a CUDA device.</param>
    /// <returns>The device.</returns>
    /// <exception cref="ArgumentException">The name is none of these.</exception>
    /// <exception cref="PlatformNotSupportedException">See <see cref="Cuda"/>.</exception>
    public static AttentionDevice Parse(string text, ILoggerFactory? loggers = null)
    {
        ArgumentNullException.ThrowIfNull(text);
        switch (text)
        {
            case "reference":
                return Reference;
            case "cpu":
                return Cpu;
            case "cuda":
                return Cuda(0, loggers);
        }

        const string Prefix = "cuda:";
        return text.StartsWith(Prefix, StringComparison.Ordinal)
            && int.TryParse(text.AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int ordinal)
            ? Cuda(ordinal, loggers)
            : throw new ArgumentException($"'{text}' is not a device; use reference, cpu, cuda or cuda:N with N from 0.", nameof(text));
    }

    /// <summary>Describes the device in one line.</summary>
    /// <returns>The text.</returns>
    public abstract string Describe();

    /// <summary>Returns <see cref="Name"/>.</summary>
    /// <returns>The name.</returns>
    public override string ToString() => Name;

    /// <summary>Gives back what the device owns. Tensors and streams of the device keep what they need until they are disposed.</summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Gives back what a derived device owns.</summary>
    /// <param name="disposing">Always true: there is no finalizer.</param>
    private protected virtual void Dispose(bool disposing)
    {
    }

    private protected static ILogger LoggerFor(ILoggerFactory? loggers) =>
        (loggers ?? NullLoggerFactory.Instance).CreateLogger("SieveAttention");

    private sealed class HostDevice(AttentionDeviceKind kind, string name) : AttentionDevice(kind, name)
    {
        public override string Describe() => Kind == AttentionDeviceKind.Reference
            ? "reference: float64, one thread"
            : $"cpu: float32, {Environment.ProcessorCount} threads, {RuntimeInformation.ProcessArchitecture}";
    }
}
