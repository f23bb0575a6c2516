namespace SieveAttention;

/// <summary>Outputs of a decode step of <see cref="EntmaxAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class EntmaxDecodeResult : IDisposable
{
    internal EntmaxDecodeResult(AttentionTensor output, AttentionTensor tau, AttentionTensor support)
    {
        Output = output;
        Tau = tau;
        Support = support;
    }

    /// <summary>The output, [B, Hq, T, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>Threshold of (alpha - 1) s, [B, Hq, T, 1]; NaN for a row without a visible key.</summary>
    public AttentionTensor Tau { get; }

    /// <summary>Number of keys with a positive weight, Int32 [B, Hq, T, 1].</summary>
    public AttentionTensor Support { get; }

    /// <summary>Blocks of 16 keys with a visible key, over all query heads and rows.</summary>
    public required long Blocks { get; init; }

    /// <summary>Those of them that were not read, because a bound of their scores proves that all their weights are 0.</summary>
    public required long SkippedBlocks { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        Tau.Dispose();
        Support.Dispose();
    }
}
