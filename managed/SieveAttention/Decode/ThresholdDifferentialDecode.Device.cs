using SieveAttention.Interop;

namespace SieveAttention;

/// <content>Decoding on a CUDA device, over a <see cref="DeviceThresholdCache"/> or a caller's own cache.</content>
public static partial class ThresholdDifferentialDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences on a CUDA device, into new tensors (legacy default stream). Row i of T new ones of a
    /// sequence with n keys stands at position n - T + i, has the threshold of its own number of visible keys, and gives what row n - T + i of
    /// Forward gives, up to rounding. T times query heads a key head is at most 64.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache, with one beta and one lambda; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values, with two views exactly where the inputs have a second query.</param>
    /// <returns>The result in the memory of the device, owned by the caller: the output in the queries' type.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen or in the wrong memory, or does not fit the cache; too many rows.
    /// </exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static ThresholdDifferentialResult Decode(
        this ThresholdDifferentialAttention attention, ThresholdDifferentialDecodeInputs inputs, DeviceThresholdCache cache)
    {
        CachedThresholdKeys keys = Keys(attention, inputs, cache);
        ThresholdDifferentialResult? result = null;
        try
        {
            (CudaDevice device, AttentionProblem problem) = Check(attention, inputs, keys);
            result = Allocate(device, inputs, problem);
            NativeThresholdDecode.Decode(device, attention.Options, inputs, keys, result, stream: null, workspace: null);
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
    /// synchronizes; it can be captured in a graph, which replays with grown caches.
    /// </summary>
    /// <param name="attention">The operator, on the device of the cache, with one beta and one lambda; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; the sequences follow each other.</param>
    /// <param name="cache">Keys and values, with two views exactly where the inputs have a second query.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; too many rows.
    /// </exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this ThresholdDifferentialAttention attention,
        ThresholdDifferentialDecodeInputs inputs,
        DeviceThresholdCache cache,
        ThresholdDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        CachedThresholdKeys keys = Keys(attention, inputs, cache);
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
    /// <param name="attention">The operator, on the device of the cache, with one beta and one lambda; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows, of the cache's type; Sequences is absent.</param>
    /// <param name="cache">Keys and values, with two views exactly where the inputs have a second query.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; too many rows.
    /// </exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Decode(
        this ThresholdDifferentialAttention attention,
        ThresholdDifferentialDecodeInputs inputs,
        CachedThresholdKeys cache,
        ThresholdDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        (CudaDevice device, AttentionProblem problem) = Check(attention, inputs, cache);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(device, problem, into.Output, nameof(into.Output), inputs.Query1.Type);
        ProblemBuilder.CheckCounts(device, problem, into.Survivors1, nameof(into.Survivors1));
        if (into.Survivors2 is { } survivors2)
        {
            if (inputs.Query2 is null)
            {
                throw Guard.Tensor(nameof(into.Survivors2), "Survivors2 is given, but Query2 is absent; allowed: both, or neither.");
            }

            ProblemBuilder.CheckCounts(device, problem, survivors2, nameof(into.Survivors2));
        }

        DeviceGuard.Queue(device, stream, workspace);
        NativeThresholdDecode.Decode(device, attention.Options, inputs, cache, into, stream, workspace);
    }

    private static CachedThresholdKeys Keys(
        ThresholdDifferentialAttention attention, ThresholdDifferentialDecodeInputs inputs, DeviceThresholdCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        return cache.View(attention.Options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Sequences);
    }

    private static (CudaDevice Device, AttentionProblem Problem) Check(
        ThresholdDifferentialAttention attention, ThresholdDifferentialDecodeInputs inputs, CachedThresholdKeys cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(cache);
        DeviceGuard.OnlyOn(attention.Device, "Decode with a cache in device memory", AttentionDeviceKind.Cuda);
        CudaDevice device = (CudaDevice)attention.Device;
        ThresholdDifferentialOptions options = attention.Options;
        if (options.HeadBeta is not null || options.HeadLambda is not null)
        {
            throw new NotSupportedException(
                "HeadBeta or HeadLambda is given; a CUDA device takes one Beta and one Lambda for all heads, the host devices take one a head.");
        }

        AttentionProblem problem = cache.Check(device, options.Mask, inputs.Query1, nameof(inputs.Query1));
        if (inputs.Query2 is null != cache.Key2 is null)
        {
            throw Guard.Tensor(
                nameof(inputs.Query2),
                $"Query2 is {(inputs.Query2 is null ? "absent" : "given")} and the cache has {(cache.Key2 is null ? 1 : 2)} key view(s); " +
                "allowed: a second query with two views only.");
        }

        if (inputs.Query2 is { } query2)
        {
            TensorGuard.Input(query2, nameof(inputs.Query2), device);
            TensorGuard.Shape(query2, nameof(inputs.Query2), inputs.Query1.Shape, "the shape of Query1");
            ProblemBuilder.CheckSameType(inputs.Query1, nameof(inputs.Query1), (query2, nameof(inputs.Query2)));
        }
        else if (options.NeedsSecondView)
        {
            throw Guard.Tensor(
                nameof(inputs.Query2),
                FormattableString.Invariant($"Query2 is absent and Lambda is {options.Lambda}; allowed: absent with Lambda = 0 only."));
        }

        ProblemBuilder.CheckEpilogue(device, problem, options.Epilogue, inputs.NormGain, inputs.Gate);
        return (device, problem);
    }

    private static ThresholdDifferentialResult Allocate(
        CudaDevice device, ThresholdDifferentialDecodeInputs inputs, in AttentionProblem problem)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new ThresholdDifferentialResult(
                Make(inputs.Query1.Type, problem.OutputShape),
                Make(TensorType.Int32, problem.RowShape),
                inputs.Query2 is null ? null : Make(TensorType.Int32, problem.RowShape));
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }

        AttentionTensor Make(TensorType type, TensorShape shape)
        {
            AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
            made.Add(tensor);
            return tensor;
        }
    }
}
