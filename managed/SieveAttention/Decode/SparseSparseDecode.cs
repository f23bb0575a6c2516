using System.Numerics;
using SieveAttention.Decoding;

namespace SieveAttention;

/// <summary>Decoding with <see cref="SparseSparseAttention"/> over a <see cref="KeyValueCache"/>.</summary>
public static class SparseSparseDecode
{
    /// <summary>
    /// Computes one or a few new rows of growing sequences, whose keys and values have been appended to the cache already. Row i of
    /// T new ones of a sequence with n keys stands at position n - T + i and gives what row n - T + i of Forward gives, with a selection
    /// of its own for each row. There is no alignment loss.
    /// </summary>
    /// <remarks>
    /// The cache keeps the pooled key of each complete block and the sum of the open one; the sparse stream reads these and the keys and
    /// values of the chosen blocks. On the Cpu device the key heads of all sequences are spread over the cores; the result does not depend
    /// on their number. Thread-safe.
    /// </remarks>
    /// <param name="attention">The operator, on the Reference or Cpu device; its mask has no query offset.</param>
    /// <param name="inputs">Queries of the new rows.</param>
    /// <param name="cache">Keys and values, with one view.</param>
    /// <returns>The result, owned by the caller: Float64 on the Reference device, Float32 on the Cpu device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen or in the wrong memory, or does not fit the cache.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The mask has a query offset, or there is no such sequence.</exception>
    /// <exception cref="NotSupportedException">The operator is on a CUDA device.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public static SparseSparseResult Decode(this SparseSparseAttention attention, DecodeInputs inputs, KeyValueCache cache)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        SparseSparseOptions options = attention.Options;
        DecodePlan plan = inputs.Plan(attention.Device, cache, options.Mask, options.Scores, options.Epilogue);
        return attention.Device.Kind == AttentionDeviceKind.Reference
            ? Run<double>(attention.Device, options, plan, inputs)
            : Run<float>(attention.Device, options, plan, inputs);
    }

    private static SparseSparseResult Run<T>(AttentionDevice device, SparseSparseOptions options, DecodePlan plan, DecodeInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        SparseSparseParameters parameters = options.ToParameters(plan.Sizes);
        DecodeScores<T> scores = new(plan, 0, options.Scores, null, HostArray<T>.Read(inputs.Query));
        SparseSparseDecoder<T>? sparse = null;
        SoftmaxDecoder<T>? full = null;
        if (parameters.WantsSparse)
        {
            sparse = new SparseSparseDecoder<T>(plan, parameters, scores);
            plan.ForEachHead(device, sparse.Run);
        }

        if (parameters.WantsFull)
        {
            full = new SoftmaxDecoder<T>(plan, scores);
            full.Run(device);
        }

        return new SparseSparseResult
        {
            SparseOutput = sparse is null ? null : Finish(parameters, inputs, sparse.X),
            SparseLogSumExp = HostTensors.WrapOptional(sparse?.LogSumExp),
            BlockIndices = sparse is null
                ? null
                : AttentionTensor.From<int>(sparse.Blocks.Indices, BlockLists.ShapeOf(plan.Sizes, parameters.BlockCount)),
            FullOutput = full is null ? null : Finish(parameters, inputs, full.Output(0)),
            FullLogSumExp = HostTensors.WrapOptional(full?.LogSumExp(0)),
        };
    }

    private static AttentionTensor Finish<T>(SparseSparseParameters parameters, DecodeInputs inputs, HostArray<T> x)
        where T : unmanaged, IFloatingPointIeee754<T> => DecodeOutput.Finish(parameters.Epilogue, inputs.NormGain, inputs.Gate, x);
}
