namespace SieveAttention;

/// <summary><see cref="SparseSparseAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class SparseSparsePacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static SparseSparseResult Forward(
        this SparseSparseAttention attention, SparseSparseInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        AttentionDevice device = attention.Device;
        TensorShape query = inputs.Query.Shape;
        TensorShape output = query with { Channels = inputs.Value.Shape.Channels };
        TensorShape rows = query with { Channels = 1 };
        TensorShape blocks = new(query.Batch, inputs.Key.Shape.Heads, query.Rows, attention.Options.BlockCount);
        bool sparse = attention.Options.Stream != SparseSparseMode.Full;
        bool full = attention.Options.Stream != SparseSparseMode.Sparse;
        SparseSparseResult result = new()
        {
            SparseOutput = sparse ? HostTensors.Allocate(device, output) : null,
            FullOutput = full ? HostTensors.Allocate(device, output) : null,
            SparseLogSumExp = sparse ? HostTensors.Allocate(device, rows) : null,
            FullLogSumExp = full ? HostTensors.Allocate(device, rows) : null,
            BlockIndices = sparse ? AttentionTensor.Allocate(TensorType.Int32, blocks) : null,
            AlignmentLoss = sparse && full ? HostTensors.Allocate(device, new TensorShape(1, 1, 1, 1)) : null,
        };
        double loss = 0;
        sequences.ForEach(part =>
        {
            using AttentionTensor? own = sparse && full ? AttentionTensor.Allocate(TensorType.Float64, new TensorShape(1, 1, 1, 1)) : null;
            attention.Forward(Part(part, inputs), new SparseSparseResult
            {
                SparseOutput = part.Queries(result.SparseOutput, "SparseOutput"),
                FullOutput = part.Queries(result.FullOutput, "FullOutput"),
                SparseLogSumExp = part.Queries(result.SparseLogSumExp, "SparseLogSumExp"),
                FullLogSumExp = part.Queries(result.FullLogSumExp, "FullLogSumExp"),
                BlockIndices = part.Queries(result.BlockIndices, "BlockIndices"),
                AlignmentLoss = own,
            });

            // The loss is a mean over elements, so sequences count by their rows.
            loss += own is null ? 0 : own.AsSpan<double>()[0] * part.QueryCount / query.Rows;
        });
        if (result.AlignmentLoss is { } total)
        {
            HostArray<double> value = new(total.Shape);
            value.Data[0] = loss;
            value.WriteTo(total);
        }

        return result;
    }

    /// <summary>Computes the gradients, with sums over sequences where they share an input or parameter.</summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, with the rows of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="InvalidOperationException">The stream is Both, which has two outputs.</exception>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static SparseSparseGradients Backward(
        this SparseSparseAttention attention, SparseSparseInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        AttentionDevice device = attention.Device;
        int rows = inputs.Query.Shape.Rows;
        SparseSparseGradients whole = new()
        {
            Query = PackedViews.GradientOf(device, inputs.Query),
            Key = PackedViews.GradientOf(device, inputs.Key),
            Value = PackedViews.GradientOf(device, inputs.Value),
            NormGain = PackedViews.GradientOf(device, inputs.NormGain),
            Gate = PackedViews.GradientOf(device, inputs.Gate),
        };
        sequences.ForEach(part =>
        {
            // The alignment loss is a mean over all elements, so that of a sequence counts by its share of the rows.
            SparseSparseOptions options = attention.Options;
            SparseSparseAttention own = new(
                device, options with { AlignmentWeight = options.AlignmentWeight * part.QueryCount / rows });
            using SparseSparseGradients gradients = own.Backward(
                Part(part, inputs), part.Queries(outputGradient, nameof(outputGradient)));
            part.PlaceQueries(gradients.Query, whole.Query);
            part.PlaceKeys(gradients.Key, whole.Key);
            part.PlaceKeys(gradients.Value, whole.Value);
            part.PlaceQueries(gradients.Gate, whole.Gate);
            PackedViews.Add(gradients.NormGain, whole.NormGain);
        });
        return whole;
    }

    private static void Check(SparseSparseAttention attention, SparseSparseInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        TensorGuard.Input(inputs.Key, nameof(inputs.Key), attention.Device);
        PackedViews.Check(attention.Device, inputs.Query, nameof(inputs.Query), inputs.Value);
    }

    private static SparseSparseInputs Part(PackedViews part, SparseSparseInputs inputs) => inputs with
    {
        Query = part.Queries(inputs.Query, nameof(inputs.Query)),
        Key = part.Keys(inputs.Key, nameof(inputs.Key)),
        Value = part.Keys(inputs.Value, nameof(inputs.Value)),
        Gate = part.Queries(inputs.Gate, nameof(inputs.Gate)),
        BlockIndices = part.Queries(inputs.BlockIndices, nameof(inputs.BlockIndices)),
    };
}
