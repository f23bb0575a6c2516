namespace SieveAttention.Cpu.Schedule;

/// <summary>How a computation runs on the cores of this machine.</summary>
internal sealed record CpuExecution
{
    internal static readonly CpuExecution Default = new();

    /// <summary>Threads that compute; all cores of the process unless said otherwise.</summary>
    internal int Threads { get; init; } = Environment.ProcessorCount;

    /// <summary>Floats in a vector: 16, 8 or 4; the widest of the machine unless said otherwise.</summary>
    internal int? VectorWidth { get; init; }

    /// <summary>Receives the finished share, 0 to 1, from whichever thread finished a task; never called by two at once.</summary>
    internal Action<double>? Progress { get; init; }

    /// <summary>Checked between tasks.</summary>
    internal CancellationToken Cancellation { get; init; }
}
