using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="GroupedDifferentialAttention"/> over a <see cref="KeyValueCache"/> or a <see cref="DeviceKeyValueCache"/>.</summary>
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
    /// <exception cref="NotSupportedException">The operator is on a CUDA device, which takes a <see cref="DeviceKeyValueCache"/>.</exception>
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

    /// <summary>
    /// Computes one or a few new rows of growing sequences on a CUDA device, into new tensors (legacy default stream). Row i of T new ones of a
    /// sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives, up to rounding.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values.</param>
    /// <returns>The result in the memory of the device, owned by the caller: the output in the queries' type.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static GroupedDifferentialResult Decode(this GroupedDifferentialAttention attention, GroupedDifferentialDecodeInputs inputs, DeviceKeyValueCache cache)
    {
        CachedKeys keys = Keys(attention, inputs, cache);
        try
        {
            return Run(attention, inputs, keys, into: null, stream: null, workspace: null);
        }
        finally
        {
            keys.DisposeViews();
        }
    }

    /// <summary>
    /// Computes new rows into the caller's tensors. With a workspace this allocates no device memory once the workspace has grown, and never
    /// synchronizes.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this GroupedDifferentialAttention attention,
        GroupedDifferentialDecodeInputs inputs,
        DeviceKeyValueCache cache,
        GroupedDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        ArgumentNullException.ThrowIfNull(into);
        CachedKeys keys = Keys(attention, inputs, cache);
        try
        {
            Run(attention, inputs, keys, into, stream, workspace);
        }
        finally
        {
            keys.DisposeViews();
        }
    }

    /// <summary>
    /// The same against a cache of the caller's own, of which entry b of the batch is entry b.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this GroupedDifferentialAttention attention,
        GroupedDifferentialDecodeInputs inputs,
        CachedKeys cache,
        GroupedDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        ArgumentNullException.ThrowIfNull(into);
        Run(attention, inputs, cache, into, stream, workspace);
    }

    private static CachedKeys Keys(GroupedDifferentialAttention attention, GroupedDifferentialDecodeInputs inputs, DeviceKeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        return cache.View(attention.Options.Mask, inputs.Query, nameof(inputs.Query), inputs.Sequences);
    }

    /// <summary>Checks and enqueues a step on a CUDA device, into new tensors where none are given.</summary>
    private static GroupedDifferentialResult Run(
        GroupedDifferentialAttention attention,
        GroupedDifferentialDecodeInputs inputs,
        CachedKeys cache,
        GroupedDifferentialResult? into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        DeviceGuard.Queue(attention.Device, stream, workspace);
        return attention.RequireCuda("Decode with a cache in device memory").Decode(inputs, cache, into, stream, workspace);
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
