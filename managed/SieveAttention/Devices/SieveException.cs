namespace SieveAttention;

/// <summary>
/// A call of the native library failed for a reason that lies neither in its arguments nor in the machine's equipment: exhausted
/// memory, an error of the CUDA driver, or a defect.
/// </summary>
public sealed class SieveException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="status">What the call returned.</param>
    /// <param name="operation">Name of the C function.</param>
    /// <param name="message">Operation and native message.</param>
    public SieveException(SieveStatus status, string operation, string message) : base(message)
    {
        Status = status;
        Operation = operation;
    }

    /// <summary>What the call returned.</summary>
    public SieveStatus Status { get; }

    /// <summary>Name of the C function, such as "sieve_memory_allocate".</summary>
    public string Operation { get; }
}
