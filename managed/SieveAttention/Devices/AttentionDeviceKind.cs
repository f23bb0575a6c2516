namespace SieveAttention;

/// <summary>The implementations of the operators.</summary>
public enum AttentionDeviceKind
{
    /// <summary>Plain loops in float64: the definition that the others are checked against.</summary>
    Reference,

    /// <summary>Float32 on all cores of the processor.</summary>
    Cpu,

    /// <summary>Kernels on an NVIDIA GPU.</summary>
    Cuda,
}
