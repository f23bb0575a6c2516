namespace SieveAttention;

/// <summary>What a CUDA device is.</summary>
/// <param name="Name">Name that the driver gives.</param>
/// <param name="CapabilityMajor">Compute capability, major part.</param>
/// <param name="CapabilityMinor">Compute capability, minor part.</param>
/// <param name="Multiprocessors">Streaming multiprocessors.</param>
/// <param name="MemoryBytes">Device memory in bytes.</param>
/// <param name="CacheBytes">Level-2 cache in bytes.</param>
/// <param name="SharedMemoryBytes">Shared memory that one thread block may use, in bytes.</param>
/// <param name="DriverVersion">CUDA version of the driver, 1000 * major + 10 * minor.</param>
public sealed record CudaDeviceInfo(
    string Name,
    int CapabilityMajor,
    int CapabilityMinor,
    int Multiprocessors,
    long MemoryBytes,
    long CacheBytes,
    int SharedMemoryBytes,
    int DriverVersion)
{
    /// <summary>Describes the device in one line.</summary>
    /// <returns>The text.</returns>
    public override string ToString() => FormattableString.Invariant(
        $"{Name}, compute capability {CapabilityMajor}.{CapabilityMinor}, {Multiprocessors} multiprocessors, {Gibibytes:F1} GiB, {Driver}");

    private double Gibibytes => MemoryBytes / (1024.0 * 1024 * 1024);

    private string Driver => $"driver for CUDA {DriverVersion / 1000}.{DriverVersion % 1000 / 10}";
}
