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

    /// <summary>Takes over tensors to write to, those of the views' own outputs among them: on a CUDA device only.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], the inputs' type or Float32.</param>
    /// <param name="logSumExp1">Float32 [B, Hq, Tq, 1].</param>
    /// <param name="logSumExp2">The same for the second view.</param>
    /// <param name="output1">[B, Hq, Tq, Dv], the inputs' type or Float32.</param>
    /// <param name="output2">The same for the second view, of the same type.</param>
    public DifferentialResult(
        AttentionTensor output,
        AttentionTensor logSumExp1,
        AttentionTensor logSumExp2,
        AttentionTensor output1,
        AttentionTensor output2)
        : this(output, logSumExp1, logSumExp2)
    {
        ArgumentNullException.ThrowIfNull(output1);
        ArgumentNullException.ThrowIfNull(output2);
        Output1 = output1;
        Output2 = output2;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>
    /// Natural logarithm of the sum of exp(score) over the visible keys in view 1, [B, Hq, Tq, 1]; -infinity for a row without one.
    /// </summary>
    public AttentionTensor LogSumExp1 { get; }

    /// <summary>The same for view 2.</summary>
    public AttentionTensor LogSumExp2 { get; }

    /// <summary>
    /// A_1 value, [B, Hq, Tq, Dv], from which the backward pass of a CUDA device starts; absent where it was not asked for. Float32 keeps a
    /// difference of nearly equal views exact; the inputs' type takes half of the memory and rounds both views before the difference.
    /// </summary>
    public AttentionTensor? Output1 { get; }

    /// <summary>A_2 value.</summary>
    public AttentionTensor? Output2 { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        LogSumExp1.Dispose();
        LogSumExp2.Dispose();
        Output1?.Dispose();
        Output2?.Dispose();
    }
}
