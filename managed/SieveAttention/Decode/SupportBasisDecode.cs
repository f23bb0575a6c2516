using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="SupportBasisAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class SupportBasisDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Gives what
    /// Forward gives for these query rows and all keys of their sequence so far: query tiles count from the first new row, and the last
    /// key tile holds the keys that there are. With a tile of 1 that is row n - T + i of one Forward over all rows; with larger tiles a
    /// tile of that call also depends on later rows.
    /// </summary>
    /// <remarks>
    /// The cache keeps the largest norm of each tile of keys. A step costs as much as there are keys: no polynomial state is kept. On the
    /// Cpu device the key heads of all sequences are spread over the cores; the result does not depend on their number. Thread-safe.
    /// </remarks>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with one view.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen or in the wrong memory, or does not fit the cache; or the weights of a row have no positive sum.
    /// </exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static SupportBasisResult Decode(this SupportBasisAttention attention, DecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        SupportBasisOptions options = attention.Options;
        DecodePlan plan = inputs.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs)
            : Run<float>(attention.Device, options, plan, inputs);
    }

    private static SupportBasisResult Run<T>(AttentionDevice device, SupportBasisOptions options, DecodePlan plan, DecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        DecodeScores<T> scores = new(plan, 0, options.Scores, inputs.RowFactors, HostArray<T>.Read(inputs.Query));
        SupportBasisDecoder<T> decoder = new(plan, scores, options);
        plan.ForEachHead(device, decoder.Run);
        return new SupportBasisResult(DecodeOutput.Finish(options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, decoder.X))
        {
            ExactFraction = decoder.ExactFraction,
        };
    }
}
