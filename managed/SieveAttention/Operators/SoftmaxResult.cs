namespace SieveAttention;

/// <summary>Outputs of <see cref="SoftmaxAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class SoftmaxResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type on a host device; the inputs' type or Float32 on CUDA.</param>
    /// <param name="logSumExp">[B, Hq, Tq, 1], Float64 or Float32 on a host device; Float32 on CUDA.</param>
    public SoftmaxResult(AttentionTensor output, AttentionTensor logSumExp)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(logSumExp);
        Output = output;
        LogSumExp = logSumExp;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>Natural logarithm of the sum of exponentials of a row's scores, [B, Hq, Tq, 1]; -infinity without a visible key.</summary>
    public AttentionTensor LogSumExp { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        LogSumExp.Dispose();
    }
}
