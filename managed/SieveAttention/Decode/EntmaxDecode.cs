using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="EntmaxAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class EntmaxDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives.
    /// </summary>
    /// <remarks>
    /// Exact, though not all keys are read: the cache keeps the smallest and largest value of each channel of 16 keys, which bound their
    /// scores; blocks are read best bound first until the next bound is below the threshold of the keys read, which is a lower
    /// bound of the threshold of the row. Values are read of the support only. On the Cpu device the rows of all query heads and sequences
    /// are spread over the cores; the result does not depend on their number. Thread-safe.
    /// </remarks>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with one view.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static EntmaxDecodeResult Decode(this EntmaxAttention attention, DecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        EntmaxOptions options = attention.Options;
        DecodePlan plan = inputs.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        ProblemBuilder.CheckHeadValues(plan.Sizes, options.Alpha.Count, nameof(options.Alpha), nameof(options.Alpha));
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs, skip: true)
            : Run<float>(attention.Device, options, plan, inputs, skip: true);
    }

    /// <summary>A step after its checks; without skipping, every block is read.</summary>
    internal static EntmaxDecodeResult Run<T>(
        AttentionDevice device, EntmaxOptions options, DecodePlan plan, DecodeInputs inputs, bool skip)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        double[] alpha = new double[plan.QueryShape.Heads];
        for (int head = 0; head < alpha.Length; head++)
        {
            alpha[head] = options.Alpha[options.Alpha.Count == 1 ? 0 : head];
        }

        DecodeScores<T> scores = new(plan, 0, options.Scores, inputs.RowFactors, HostArray<T>.Read(inputs.Query));
        EntmaxDecoder<T> decoder = new(plan, scores, alpha, skip);
        plan.ForEachRow(device, decoder.Run);
        return new EntmaxDecodeResult(
            DecodeOutput.Finish(options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, decoder.X),
            HostTensors.Wrap(decoder.Tau),
            AttentionTensor.From<int>(decoder.Support, plan.RowShape))
        {
            Blocks = decoder.Blocks,
            SkippedBlocks = decoder.Skipped,
        };
    }
}
