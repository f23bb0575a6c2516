using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="DifferentialAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class DifferentialDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives. Values are read
    /// once for both streams. On the Cpu device the key heads of all sequences, and pieces of long ones, are spread over the cores; the
    /// result does not depend on their number. Thread-safe.
    /// </summary>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with two views.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static DifferentialResult Decode(this DifferentialAttention attention, DifferentialDecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        DifferentialOptions options = attention.Options;
        AttentionDevice device = attention.Device;
        DecodePlan plan = DecodePlan.Build(device, cache, 2, options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Sequences);
        TensorGuard.Input(inputs.Query2, nameof(inputs.Query2), device);
        TensorGuard.Shape(inputs.Query2, nameof(inputs.Query2), plan.QueryShape, "[sequences, query heads, rows, head_dim]");
        ProblemBuilder.CheckScores(device, plan.Sizes, options.Scores, rowFactors: null);
        ProblemBuilder.CheckEpilogue(device, plan.Sizes, options.Epilogue, inputs.NormGain, inputs.Gate);
        if (inputs.LambdaVectors is { } vectors)
        {
            TensorGuard.Input(vectors, nameof(inputs.LambdaVectors), device);
            TensorGuard.Shape(
                vectors, nameof(inputs.LambdaVectors), new TensorShape(1, 1, 4, plan.QueryShape.Channels), "[1, 1, 4, head_dim]");
        }

        double[] lambda = DifferentialLambda.Read(options, inputs.LambdaVectors, plan.QueryShape.Heads).PerHead;
        return device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(device, options, lambda, plan, inputs)
            : Run<float>(device, options, lambda, plan, inputs);
    }

    private static DifferentialResult Run<T>(
        AttentionDevice device, DifferentialOptions options, double[] lambda, DecodePlan plan, DifferentialDecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        SoftmaxDecoder<T> decoder = new(
            plan,
            new DecodeScores<T>(plan, 0, options.Scores, null, HostArray<T>.Read(inputs.Query1)),
            new DecodeScores<T>(plan, 1, options.Scores, null, HostArray<T>.Read(inputs.Query2)));
        decoder.Run(device);

        // x = O_1 - lambda O_2; where lambda is 0 the second view contributes nothing, whatever it holds.
        HostArray<T> x = decoder.Output(0);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                DecodeRows<T>.AddScaled(x.Head(b, h), T.CreateTruncating(-lambda[h]), decoder.Output(1).Head(b, h));
            }
        }

        return new DifferentialResult(
            DecodeOutput.Finish(options.Epilogue.ToParameters(), inputs.NormGain, inputs.Gate, x),
            HostTensors.Wrap(decoder.LogSumExp(0)),
            HostTensors.Wrap(decoder.LogSumExp(1)));
    }
}
