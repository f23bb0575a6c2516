namespace SieveAttention;

/// <summary>Outputs of <see cref="ThresholdDifferentialAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class ThresholdDifferentialResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type on a host device; the inputs' type or Float32 on CUDA.</param>
    /// <param name="survivors1">Int32 [B, Hq, Tq, 1].</param>
    /// <param name="survivors2">The same for the second view; absent where it is, or where it is not wanted.</param>
    /// <param name="survivorTiles">
    /// Int32 [B, Hq, ceil(Tq / 64), ceil(Tk / 1024)] with contiguous words, which lets Backward find the survivors without looking for
    /// them; absent where it is not wanted. CUDA devices only.
    /// </param>
    public ThresholdDifferentialResult(
        AttentionTensor output, AttentionTensor survivors1, AttentionTensor? survivors2 = null, AttentionTensor? survivorTiles = null)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(survivors1);
        Output = output;
        Survivors1 = survivors1;
        Survivors2 = survivors2;
        SurvivorTiles = survivorTiles;
    }

    /// <summary>The output, [B, Hq, Tq, Dv].</summary>
    public AttentionTensor Output { get; }

    /// <summary>Number of keys above the threshold in view 1, Int32 [B, Hq, Tq, 1].</summary>
    public AttentionTensor Survivors1 { get; }

    /// <summary>The same for view 2; null without a second view.</summary>
    public AttentionTensor? Survivors2 { get; }

    /// <summary>
    /// Which tiles of 64 query rows x 64 keys hold a survivor: bit 2 (k % 16) + t of word k / 16 for the keys 64 k to 64 k + 63 in view t + 1,
    /// t = 0, 1. Null where it was not asked for.
    /// </summary>
    public AttentionTensor? SurvivorTiles { get; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Output.Dispose();
        Survivors1.Dispose();
        Survivors2?.Dispose();
        SurvivorTiles?.Dispose();
    }
}
