namespace SieveAttention;

/// <summary>Outputs of <see cref="SupportBasisAttention"/>. Owns its tensor. Thread-safe to read.</summary>
public sealed class SupportBasisResult : IDisposable
{
    /// <summary>Takes over a tensor to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type.</param>
    public SupportBasisResult(AttentionTensor output)
    {
        ArgumentNullException.ThrowIfNull(output);
        Output = output;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>
    /// Exact tiles / tiles, over batch and query heads, counting tiles with at least one visible pair; 0 if there is none, and before
    /// the operator has written to this result.
    /// </summary>
    public double ExactFraction { get; internal set; }

    /// <summary>Disposes the tensor.</summary>
    public void Dispose() => Output.Dispose();
}
