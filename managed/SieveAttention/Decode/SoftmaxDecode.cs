using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="SoftmaxAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class SoftmaxDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives. On the Cpu device
    /// the key heads of all sequences, and pieces of long ones, are spread over the cores; the result does not depend on their number.
    /// Thread-safe.
    /// </summary>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with one view.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static SoftmaxResult Decode(this SoftmaxAttention attention, DecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        SoftmaxOptions options = attention.Options;
        DecodePlan plan = inputs.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs)
            : Run<float>(attention.Device, options, plan, inputs);
    }

    private static SoftmaxResult Run<T>(AttentionDevice device, SoftmaxOptions options, DecodePlan plan, DecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        SoftmaxDecoder<T> decoder = new(
            plan, new DecodeScores<T>(plan, 0, options.Scores, inputs.RowFactors, HostArray<T>.Read(inputs.Query)));
        decoder.Run(device);
        return new SoftmaxResult(
            DecodeOutput.Finish(options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, decoder.Output(0)),
            HostTensors.Wrap(decoder.LogSumExp(0)));
    }
}
