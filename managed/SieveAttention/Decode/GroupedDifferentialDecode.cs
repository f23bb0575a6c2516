using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="GroupedDifferentialAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class GroupedDifferentialDecode
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
    public static GroupedDifferentialResult Decode(
        this GroupedDifferentialAttention attention, GroupedDifferentialDecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        GroupedDifferentialOptions options = attention.Options;
        AttentionDevice device = attention.Device;
        DecodePlan plan = DecodePlan.Build(device, cache, 1, options.Mask, inputs.Query, nameof(inputs.Query), inputs.Sequences);
        ProblemBuilder.CheckScores(device, plan.Sizes, options.Scores, rowFactors: null);
        int group = options.Signals + 1;
        if (plan.QueryShape.Heads % group != 0)
        {
            throw Guard.Tensor(
                nameof(inputs.Query),
                $"Query has {plan.QueryShape.Heads} heads and Signals is {options.Signals}; " +
                $"the heads have to be a multiple of Signals + 1 = {group}.");
        }

        AttentionProblem output = options.ToParameters().OutputProblem(plan.Sizes);
        TensorGuard.Input(inputs.LambdaLogit, nameof(inputs.LambdaLogit), device);
        TensorGuard.Shape(inputs.LambdaLogit, nameof(inputs.LambdaLogit), output.RowShape, "[sequences, signal heads, rows, 1]");
        ProblemBuilder.CheckEpilogue(device, output, options.Epilogue, inputs.NormGain, inputs.Gate);
        return device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(device, options, output, plan, inputs)
            : Run<float>(device, options, output, plan, inputs);
    }

    private static GroupedDifferentialResult Run<T>(
        AttentionDevice device,
        GroupedDifferentialOptions options,
        in AttentionProblem output,
        DecodePlan plan,
        GroupedDifferentialDecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        GroupedDifferentialParameters parameters = options.ToParameters();
        SoftmaxDecoder<T> decoder = new(plan, new DecodeScores<T>(plan, 0, options.Scores, null, HostArray<T>.Read(inputs.Query)));
        decoder.Run(device);

        // x_s = O_s - sigmoid(logit_s) O_noise
        HostArray<T> heads = decoder.Output(0);
        HostArray<T> logits = HostArray<T>.Read(inputs.LambdaLogit);
        HostArray<T> x = new(output.OutputShape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    T sigmoid = T.One / (T.One + T.Exp(-logits.Row(b, h, i)[0]));
                    heads.Row(b, parameters.SignalHead(h), i).CopyTo(x.Row(b, h, i));
                    DecodeRows<T>.AddScaled(x.Row(b, h, i), -sigmoid, heads.Row(b, parameters.NoiseHead(h), i));
                }
            }
        }

        return new GroupedDifferentialResult(
            DecodeOutput.Finish(parameters.Epilogue, inputs.NormGain, inputs.Gate, x), HostTensors.Wrap(decoder.LogSumExp(0)));
    }
}
