namespace SieveAttention;

/// <summary>Outputs of <see cref="ThresholdDifferentialAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class ThresholdDifferentialResult : IDisposable
{
    /// <summary>Takes over tensors to write to.</summary>
    /// <param name="output">[B, Hq, Tq, Dv], any floating-point type on a host device; the inputs' type or Float32 on CUDA.</param>
    /// <param name="survivors1">Int32 [B, Hq, Tq, 1].</param>
    /// <param name="survivors2">The same for the second view; absent where it is, or where it is not wanted.</param>
    /// <param name="survivorTiles">
    /// On a CUDA device, where Backward is to find the survivors again without looking for them: Int32
    /// [B, Hq, ceil(Tq / 64), ceil(Tk / 1024)], dense channels. Contents are the library's own.
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
    /// Which tiles of 64 rows x 64 keys hold a survivor, in device memory; null on host devices, or where it is not wanted.
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
