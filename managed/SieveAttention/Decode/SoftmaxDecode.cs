using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="SoftmaxAttention"/> over a <see cref="KeyValueCache"/> or a <see cref="DeviceKeyValueCache"/>.</summary>
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
    /// <exception cref="NotSupportedException">The operator is on a CUDA device, which takes a <see cref="DeviceKeyValueCache"/>.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static SoftmaxResult Decode(this SoftmaxAttention attention, DecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        DeviceGuard.OnlyOn(
            attention.Device, "Decode with a cache in host memory", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        SoftmaxOptions options = attention.Options;
        DecodePlan plan = inputs.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs)
            : Run<float>(attention.Device, options, plan, inputs);
    }

    /// <summary>
    /// Computes one or a few new rows of growing sequences on a CUDA device, into new tensors (legacy default stream). Row i of T new ones of a
    /// sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives, up to rounding.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values.</param>
    /// <returns>The result in the memory of the device, owned by the caller: the output in the queries' type.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static SoftmaxResult Decode(this SoftmaxAttention attention, DecodeInputs inputs, DeviceKeyValueCache cache)
    {
        CachedKeys keys = Keys(attention, inputs, cache);
        SoftmaxResult? result = null;
        try
        {
            (CudaSoftmax cuda, AttentionProblem problem) = Check(attention, inputs, keys);
            result = cuda.Allocate(inputs.Query.Type, problem);
            cuda.Decode(inputs, keys, result, stream: null, workspace: null);
            return result;
        }
        catch
        {
            result?.Dispose();
            throw;
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
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this SoftmaxAttention attention,
        DecodeInputs inputs,
        DeviceKeyValueCache cache,
        SoftmaxResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        CachedKeys keys = Keys(attention, inputs, cache);
        try
        {
            Decode(attention, inputs, keys, into, stream, workspace);
        }
        finally
        {
            keys.DisposeViews();
        }
    }

    /// <summary>The same against a cache of the caller's own, of which entry b of the batch is entry b.</summary>
    /// <param name="attention">The operator, on the device of the cache; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; Sequences is absent.</param>
    /// <param name="cache">Keys and values.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this SoftmaxAttention attention,
        DecodeInputs inputs,
        CachedKeys cache,
        SoftmaxResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        (CudaSoftmax cuda, AttentionProblem problem) = Check(attention, inputs, cache);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(attention.Device, problem, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(attention.Device, problem, into.LogSumExp, nameof(into.LogSumExp));
        DeviceGuard.Queue(attention.Device, stream, workspace);
        cuda.Decode(inputs, cache, into, stream, workspace);
    }

    private static CachedKeys Keys(SoftmaxAttention attention, DecodeInputs inputs, DeviceKeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        return cache.View(attention.Options.Mask, inputs.Query, nameof(inputs.Query), inputs.Sequences);
    }

    private static (CudaSoftmax Cuda, AttentionProblem Problem) Check(SoftmaxAttention attention, DecodeInputs inputs, CachedKeys cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        CudaSoftmax cuda = attention.RequireCuda("Decode with a cache in device memory");
        SoftmaxOptions options = attention.Options;
        AttentionProblem problem = cache.Check(attention.Device, options.Mask, inputs.Query, nameof(inputs.Query));
        ProblemBuilder.CheckScores(attention.Device, problem, options.Scores, inputs.RowFactors);
        ProblemBuilder.CheckEpilogue(attention.Device, problem, options.Epilogue, inputs.NormGain, inputs.Gate);
        CudaSoftmax.CheckScores((CudaDevice)attention.Device, options.Scores);
        return (cuda, problem);
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
