namespace SieveAttention;

/// <summary>Outcome of a call of the native library; the numbers are those of its C interface.</summary>
public enum SieveStatus
{
    /// <summary>The call did what it was asked.</summary>
    Ok = 0,

    /// <summary>An argument is outside its domain. Reported as <see cref="ArgumentException"/>.</summary>
    InvalidArgument = 1,

    /// <summary>No kernel of this build runs the problem on this device. Reported as <see cref="NotSupportedException"/>.</summary>
    Unsupported = 2,

    /// <summary>There is no usable CUDA device. Reported as <see cref="PlatformNotSupportedException"/>.</summary>
    Unavailable = 3,

    /// <summary>Device or host memory is exhausted.</summary>
    OutOfMemory = 4,

    /// <summary>The workspace is smaller than the call needs.</summary>
    WorkspaceTooSmall = 5,

    /// <summary>The CUDA driver reported an error.</summary>
    DeviceError = 6,

    /// <summary>A defect of the library.</summary>
    InternalError = 7,
}
