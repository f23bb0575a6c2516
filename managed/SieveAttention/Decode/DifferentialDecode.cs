using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="DifferentialAttention"/> over a <see cref="KeyValueCache"/> or a <see cref="DeviceKeyValueCache"/>.</summary>
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
    /// <exception cref="NotSupportedException">The operator is on a CUDA device, which takes a <see cref="DeviceKeyValueCache"/>.</exception>
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

    /// <summary>
    /// Computes one or a few new rows of growing sequences on a CUDA device, into new tensors (legacy default stream). Row i of T new ones of a
    /// sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives, up to rounding.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys of 2 D channels, those of view 1 and behind them those of view 2; and values.</param>
    /// <returns>The result in the memory of the device, owned by the caller: the output in the queries' type.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static DifferentialResult Decode(this DifferentialAttention attention, DifferentialDecodeInputs inputs, DeviceKeyValueCache cache)
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
    /// <param name="cache">Keys of 2 D channels, those of view 1 and behind them those of view 2; and values.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this DifferentialAttention attention,
        DifferentialDecodeInputs inputs,
        DeviceKeyValueCache cache,
        DifferentialResult into,
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
    /// <param name="cache">Keys of 2 D channels, those of view 1 and behind them those of view 2; and values.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this DifferentialAttention attention,
        DifferentialDecodeInputs inputs,
        CachedKeys cache,
        DifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        ArgumentNullException.ThrowIfNull(into);
        Run(attention, inputs, cache, into, stream, workspace);
    }

    private static CachedKeys Keys(DifferentialAttention attention, DifferentialDecodeInputs inputs, DeviceKeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        return cache.View(attention.Options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Sequences);
    }

    /// <summary>Checks and enqueues a step on a CUDA device, into new tensors where none are given.</summary>
    private static DifferentialResult Run(
        DifferentialAttention attention,
        DifferentialDecodeInputs inputs,
        CachedKeys cache,
        DifferentialResult? into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        DeviceGuard.Queue(attention.Device, stream, workspace);
        return attention.RequireCuda("Decode with a cache in device memory").Decode(inputs, cache, into, stream, workspace);
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
