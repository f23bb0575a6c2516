using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="RowFunctionAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class RowFunctionDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives.
    /// </summary>
    /// <remarks>
    /// All visible keys are read, and the values of those with a weight. Weights are computed in float64 from the device's scores. On the
    /// Cpu device the key heads of all sequences are spread over the cores; the result does not depend on their number. Thread-safe.
    /// </remarks>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, and the tensors that only some weights have.</param>
    /// <param name="cache">Keys and values, with one view.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static RowFunctionResult Decode(
        this RowFunctionAttention attention, RowFunctionDecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        RowFunctionOptions options = attention.Options;
        DecodePlan plan = inputs.Attention.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        RowFunctionAttention.CheckWeights(attention.Device, plan.Sizes, options.Weights, inputs.Extras);
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs)
            : Run<float>(attention.Device, options, plan, inputs);
    }

    private static RowFunctionResult Run<T>(
        AttentionDevice device, RowFunctionOptions options, DecodePlan plan, RowFunctionDecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        DecodeInputs shared = inputs.Attention;
        DecodeScores<T> scores = new(plan, 0, options.Scores, shared.RowFactors, HostArray<T>.Read(shared.Query));
        RowFunctionDecoder<T> decoder = new(
            plan, scores, problem => HostRowFunction.ReferenceFunction(problem, options.Weights, inputs.Extras));
        plan.ForEachHead(device, decoder.Run);
        return new RowFunctionResult(
            DecodeOutput.Finish(options.Epilogue.ToParameters(), shared.NormGain, shared.Gate, decoder.X));
    }
}
