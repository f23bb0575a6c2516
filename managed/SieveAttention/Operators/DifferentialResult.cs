namespace SieveAttention;

/// <summary>Outputs of <see cref="DifferentialAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class DifferentialResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type.</param>
    /// <param name="logSumExp1">Float64 or Float32 [B, Hq, Tq, 1].</param>
    /// <param name="logSumExp2">The same for the second view.</param>
    public DifferentialResult(AttentionTensor output, AttentionTensor logSumExp1, AttentionTensor logSumExp2)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(logSumExp1);
        ArgumentNullException.ThrowIfNull(logSumExp2);
        Output = output;
        LogSumExp1 = logSumExp1;
        LogSumExp2 = logSumExp2;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>
    /// Natural logarithm of the sum of exp(score) over the visible keys in view 1, [B, Hq, Tq, 1]; -infinity for a row without one.
    /// </summary>
    public AttentionTensor LogSumExp1 { get; }

    /// <summary>The same for view 2.</summary>
    public AttentionTensor LogSumExp2 { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        LogSumExp1.Dispose();
        LogSumExp2.Dispose();
    }
}
