namespace SieveAttention;

/// <summary><see cref="EntmaxAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class EntmaxPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static EntmaxResult Forward(
        this EntmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        TensorShape query = inputs.Query.Shape;
        EntmaxResult result = new(
            HostTensors.Allocate(attention.Device, query with { Channels = inputs.Value.Shape.Channels }),
            HostTensors.Allocate(attention.Device, query with { Channels = 1 }),
            AttentionTensor.Allocate(TensorType.Int32, query with { Channels = 1 }));
        sequences.ForEach(part => attention.Forward(
            part.Inputs(inputs),
            new EntmaxResult(
                part.Queries(result.Output, "Output"), part.Queries(result.Tau, "Tau"), part.Queries(result.Support, "Support"))));
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
    public static EntmaxGradients Backward(
        this EntmaxAttention attention, AttentionInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        PackedGradientSum sum = new(attention.Device, inputs, attention.Options.Scores.RowFactor);
        double[] alpha = new double[attention.Options.Alpha.Count];
        sequences.ForEach(part =>
        {
            using EntmaxGradients gradients = attention.Backward(
                part.Inputs(inputs), part.Queries(outputGradient, nameof(outputGradient)));
            sum.Add(part, gradients);
            PackedGradientSum.Add(gradients.Alpha, alpha);
        });
        return new EntmaxGradients(sum.Tensors, alpha);
    }

    private static void Check(EntmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        PackedViews.Check(attention.Device, inputs.Query, nameof(inputs.Query), inputs.Value);
    }
}
