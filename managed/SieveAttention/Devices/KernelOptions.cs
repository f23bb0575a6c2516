namespace SieveAttention;

/// <summary>The families of kernels of CUDA devices.</summary>
public enum KernelPath
{
    /// <summary>The fastest family that the device runs.</summary>
    Automatic = 0,

    /// <summary>For compute capability 8.0 and newer.</summary>
    Generic = 1,

    /// <summary>For compute capability 9.0.</summary>
    Hopper = 2,
}

/// <summary>Whether gradients repeat bit for bit; outputs of kernels always do.</summary>
public enum Repeatability
{
    /// <summary>The fastest order of summation.</summary>
    Fastest = 0,

    /// <summary>The same bits in every run on the same device and build.</summary>
    Bitwise = 1,
}

/// <summary>
/// How a CUDA device runs an operator. The host devices have no kernels: they give the same whatever stands here, and repeat bit for
/// bit on one machine. Immutable.
/// </summary>
public sealed record KernelOptions
{
    /// <summary>Largest <see cref="DecodeSplits"/>.</summary>
    internal const int MostSplits = 1024;

    /// <summary>Which family runs; one that the device does not have is an error, not another family.</summary>
    public KernelPath Path { get; init; }

    /// <summary>Whether gradients repeat bit for bit.</summary>
    public Repeatability Repeatability { get; init; }

    /// <summary>
    /// Parts in which a decode step reads the keys of a head side by side, 1 to 1024; 0 = chosen by the library. Outputs of decode
    /// repeat bit for bit for the same number of parts.
    /// </summary>
    public int DecodeSplits { get; init; }

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Defined(Path, nameof(Path));
        Guard.Defined(Repeatability, nameof(Repeatability));
        Guard.Between(0, MostSplits, DecodeSplits, nameof(DecodeSplits));
    }
}
