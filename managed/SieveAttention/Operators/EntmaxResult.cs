namespace SieveAttention;

/// <summary>Outputs of <see cref="EntmaxAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class EntmaxResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type.</param>
    /// <param name="tau">[B, Hq, Tq, 1], Float64 or Float32.</param>
    /// <param name="support">Int32 [B, Hq, Tq, 1].</param>
    public EntmaxResult(AttentionTensor output, AttentionTensor tau, AttentionTensor support)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(tau);
        ArgumentNullException.ThrowIfNull(support);
        Output = output;
        Tau = tau;
        Support = support;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>Threshold of a row on (alpha - 1) times its scores, [B, Hq, Tq, 1]; NaN without a visible key.</summary>
    public AttentionTensor Tau { get; }

    /// <summary>Number of keys with a positive weight, Int32 [B, Hq, Tq, 1].</summary>
    public AttentionTensor Support { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        Tau.Dispose();
        Support.Dispose();
    }
}
