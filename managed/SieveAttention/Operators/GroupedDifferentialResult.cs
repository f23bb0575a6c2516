namespace SieveAttention;

/// <summary>Outputs of <see cref="GroupedDifferentialAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class GroupedDifferentialResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Ho, Tq, Dv], any floating-point type.</param>
    /// <param name="logSumExp">Float64 or Float32 [B, Hq, Tq, 1].</param>
    public GroupedDifferentialResult(AttentionTensor output, AttentionTensor logSumExp)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(logSumExp);
        Output = output;
        LogSumExp = logSumExp;
    }

    /// <summary>Takes over tensors to write to, that of the heads' own outputs among them: on a CUDA device only.</summary>
    /// <param name="output">[B, Ho, Tq, Dv], the inputs' type or Float32.</param>
    /// <param name="logSumExp">Float32 [B, Hq, Tq, 1].</param>
    /// <param name="headOutputs">[B, Hq, Tq, Dv], the inputs' type or Float32.</param>
    public GroupedDifferentialResult(AttentionTensor output, AttentionTensor logSumExp, AttentionTensor headOutputs)
        : this(output, logSumExp)
    {
        ArgumentNullException.ThrowIfNull(headOutputs);
        HeadOutputs = headOutputs;
    }

    /// <summary>The output of the signal heads, [B, Ho, Tq, Dv], groups in order.</summary>
    public AttentionTensor Output { get; }

    /// <summary>
    /// Natural logarithm of the sum of exp(score) over the visible keys, of signal and noise heads, [B, Hq, Tq, 1]; -infinity for a row
    /// without one.
    /// </summary>
    public AttentionTensor LogSumExp { get; }

    /// <summary>
    /// O_h of signal and noise heads, [B, Hq, Tq, Dv], from which the backward pass of a CUDA device starts; absent where it was not asked
    /// for. The difference is taken of what is stored: Float32 rounds it once.
    /// </summary>
    public AttentionTensor? HeadOutputs { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        LogSumExp.Dispose();
        HeadOutputs?.Dispose();
    }
}
