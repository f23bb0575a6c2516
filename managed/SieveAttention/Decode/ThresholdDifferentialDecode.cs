using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>
/// Decoding with <see cref="ThresholdDifferentialAttention"/> over a <see cref="KeyValueCache"/> or a <see cref="DeviceThresholdCache"/>.
/// </summary>
public static partial class ThresholdDifferentialDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives.
    /// </summary>
    /// <remarks>
    /// The inverse norm of each key is computed once, when it is first decoded over, and kept in the cache. On the Cpu device the key
    /// heads of all sequences are spread over the cores; the result does not depend on their number. Thread-safe.
    /// </remarks>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with two views exactly where the inputs have a second query.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device, which takes a <see cref="DeviceThresholdCache"/>.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static ThresholdDifferentialResult Decode(
        this ThresholdDifferentialAttention attention, ThresholdDifferentialDecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        DeviceGuard.OnlyOn(
            attention.Device, "Decode with a cache in host memory", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        ThresholdDifferentialOptions options = attention.Options;
        AttentionDevice device = attention.Device;
        DecodePlan plan = DecodePlan.Build(
            device, cache, inputs.Query2 is null ? 1 : 2, options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Sequences);
        if (inputs.Query2 is { } query2)
        {
            TensorGuard.Input(query2, nameof(inputs.Query2), device);
            TensorGuard.Shape(query2, nameof(inputs.Query2), plan.QueryShape, "[sequences, query heads, rows, head_dim]");
        }
        else if (options.NeedsSecondView)
        {
            string message = FormattableString.Invariant(
                $"Query2 is absent and Lambda is {options.Lambda}; allowed: absent with Lambda = 0 only.");
            throw Guard.Tensor(nameof(inputs.Query2), message);
        }

        ProblemBuilder.CheckEpilogue(device, plan.Sizes, options.Epilogue, inputs.NormGain, inputs.Gate);
        return device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(device, options, plan, inputs)
            : Run<float>(device, options, plan, inputs);
    }

    private static ThresholdDifferentialResult Run<T>(
        AttentionDevice device, ThresholdDifferentialOptions options, DecodePlan plan, ThresholdDifferentialDecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ThresholdDifferentialParameters parameters = options.ToParameters(plan.QueryShape.Heads);
        ThresholdDifferentialDecoder<T> decoder = new(
            plan, parameters, HostArray<T>.Read(inputs.Query1), HostTensors.ReadOptional<T>(inputs.Query2));
        decoder.Run(device);
        return new ThresholdDifferentialResult(
            DecodeOutput.Finish(parameters.Epilogue, inputs.NormGain, inputs.Gate, decoder.X),
            Wrap(plan, decoder.Survivors1),
            decoder.Survivors2 is { } survivors2 ? Wrap(plan, survivors2) : null);
    }

    private static AttentionTensor Wrap(DecodePlan plan, int[] counts) => AttentionTensor.From<int>(counts, plan.RowShape);
}
