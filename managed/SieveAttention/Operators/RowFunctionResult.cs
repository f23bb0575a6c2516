namespace SieveAttention;

/// <summary>Output of <see cref="RowFunctionAttention"/>. Owns its tensor. Thread-safe to read.</summary>
public sealed class RowFunctionResult : IDisposable
{
    /// <summary>Takes over a tensor to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type.</param>
    public RowFunctionResult(AttentionTensor output)
    {
        ArgumentNullException.ThrowIfNull(output);
        Output = output;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>Disposes the tensor.</summary>
    public void Dispose() => Output.Dispose();
}
