namespace SieveAttention;

/// <summary><see cref="SoftmaxAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class SoftmaxPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static SoftmaxResult Forward(
        this SoftmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        TensorShape query = inputs.Query.Shape;
        SoftmaxResult result = new(
            HostTensors.Allocate(attention.Device, query with { Channels = inputs.Value.Shape.Channels }),
            HostTensors.Allocate(attention.Device, query with { Channels = 1 }));
        sequences.ForEach(part => attention.Forward(
            part.Inputs(inputs),
            new SoftmaxResult(part.Queries(result.Output, "Output"), part.Queries(result.LogSumExp, "LogSumExp"))));
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
    public static AttentionGradients Backward(
        this SoftmaxAttention attention, AttentionInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        PackedGradientSum sum = new(attention.Device, inputs, attention.Options.Scores.RowFactor);
        sequences.ForEach(part =>
        {
            using AttentionGradients gradients = attention.Backward(
                part.Inputs(inputs), part.Queries(outputGradient, nameof(outputGradient)));
            sum.Add(part, gradients);
        });
        return new AttentionGradients(sum.Tensors);
    }

    private static void Check(SoftmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        PackedViews.Check(attention.Device, inputs.Query, nameof(inputs.Query), inputs.Value);
    }
}
