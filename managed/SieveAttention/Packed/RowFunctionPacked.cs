namespace SieveAttention;

/// <summary><see cref="RowFunctionAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class RowFunctionPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static RowFunctionResult Forward(
        this RowFunctionAttention attention, RowFunctionInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        TensorShape query = inputs.Attention.Query.Shape;
        RowFunctionResult result = new(
            HostTensors.Allocate(attention.Device, query with { Channels = inputs.Attention.Value.Shape.Channels }));
        sequences.ForEach(part => attention.Forward(Part(part, inputs), new RowFunctionResult(part.Queries(result.Output, "Output"))));
        return result;
    }

    /// <summary>Computes the gradients, with sums over sequences where they share an input or parameter.</summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, rows of all sequences, Dv].</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static RowFunctionGradients Backward(
        this RowFunctionAttention attention, RowFunctionInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        AttentionDevice device = attention.Device;
        PackedGradientSum sum = new(device, inputs.Attention, attention.Options.Scores.RowFactor);
        AttentionTensor? factor = PackedViews.GradientOf(device, inputs.AffineFactor);
        AttentionTensor? shift = PackedViews.GradientOf(device, inputs.AffineShift);
        AttentionTensor? bias = PackedViews.GradientOf(device, inputs.DistanceBias);
        double[]? parameter = null;
        sequences.ForEach(part =>
        {
            using RowFunctionGradients gradients = attention.Backward(
                Part(part, inputs), part.Queries(outputGradient, nameof(outputGradient)));
            sum.Add(part, gradients);
            part.PlaceQueries(gradients.AffineFactor, factor);
            part.PlaceQueries(gradients.AffineShift, shift);
            PackedViews.Add(gradients.DistanceBias, bias);
            if (gradients.HeadParameter is { } values)
            {
                parameter ??= new double[values.Count];
                PackedGradientSum.Add(values, parameter);
            }
        });
        return new RowFunctionGradients(sum.Tensors, new RowParameterGradients(parameter)
        {
            AffineFactor = factor, AffineShift = shift, DistanceBias = bias,
        });
    }

    private static void Check(RowFunctionAttention attention, RowFunctionInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        ArgumentNullException.ThrowIfNull(inputs.Attention);
        AttentionInputs tensors = inputs.Attention;
        PackedViews.Check(attention.Device, tensors.Query, nameof(tensors.Query), tensors.Value);
    }

    private static RowFunctionInputs Part(PackedViews part, RowFunctionInputs inputs) => new()
    {
        Attention = part.Inputs(inputs.Attention),
        AffineFactor = part.Queries(inputs.AffineFactor, nameof(inputs.AffineFactor)),
        AffineShift = part.Queries(inputs.AffineShift, nameof(inputs.AffineShift)),
        DistanceBias = inputs.DistanceBias,
    };
}
