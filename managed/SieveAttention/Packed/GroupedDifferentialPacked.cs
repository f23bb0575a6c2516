namespace SieveAttention;

/// <summary>
/// <see cref="GroupedDifferentialAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.
/// </summary>
public static class GroupedDifferentialPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static GroupedDifferentialResult Forward(
        this GroupedDifferentialAttention attention, GroupedDifferentialInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        AttentionDevice device = attention.Device;
        TensorShape query = inputs.Query.Shape;
        GroupedDifferentialResult result = new(
            HostTensors.Allocate(
                device, query with { Heads = inputs.LambdaLogit.Shape.Heads, Channels = inputs.Value.Shape.Channels }),
            HostTensors.Allocate(device, query with { Channels = 1 }));
        sequences.ForEach(part => attention.Forward(
            Part(part, inputs),
            new GroupedDifferentialResult(part.Queries(result.Output, "Output"), part.Queries(result.LogSumExp, "LogSumExp"))));
        return result;
    }

    /// <summary>Computes the gradients, with sums over sequences where they share an input or parameter.</summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, with the rows of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static GroupedDifferentialGradients Backward(
        this GroupedDifferentialAttention attention,
        GroupedDifferentialInputs inputs,
        AttentionTensor outputGradient,
        PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        AttentionDevice device = attention.Device;
        GroupedDifferentialGradients whole = new()
        {
            Query = PackedViews.GradientOf(device, inputs.Query),
            Key = PackedViews.GradientOf(device, inputs.Key),
            Value = PackedViews.GradientOf(device, inputs.Value),
            LambdaLogit = PackedViews.GradientOf(device, inputs.LambdaLogit),
            NormGain = PackedViews.GradientOf(device, inputs.NormGain),
            Gate = PackedViews.GradientOf(device, inputs.Gate),
        };
        sequences.ForEach(part =>
        {
            using GroupedDifferentialGradients gradients = attention.Backward(
                Part(part, inputs), part.Queries(outputGradient, nameof(outputGradient)));
            part.PlaceQueries(gradients.Query, whole.Query);
            part.PlaceKeys(gradients.Key, whole.Key);
            part.PlaceKeys(gradients.Value, whole.Value);
            part.PlaceQueries(gradients.LambdaLogit, whole.LambdaLogit);
            part.PlaceQueries(gradients.Gate, whole.Gate);
            PackedViews.Add(gradients.NormGain, whole.NormGain);
        });
        return whole;
    }

    private static void Check(GroupedDifferentialAttention attention, GroupedDifferentialInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        TensorGuard.Input(inputs.LambdaLogit, nameof(inputs.LambdaLogit), attention.Device);
        PackedViews.Check(attention.Device, inputs.Query, nameof(inputs.Query), inputs.Value);
    }

    private static GroupedDifferentialInputs Part(PackedViews part, GroupedDifferentialInputs inputs) => inputs with
    {
        Query = part.Queries(inputs.Query, nameof(inputs.Query)),
        LambdaLogit = part.Queries(inputs.LambdaLogit, nameof(inputs.LambdaLogit)),
        Key = part.Keys(inputs.Key, nameof(inputs.Key)),
        Value = part.Keys(inputs.Value, nameof(inputs.Value)),
        Gate = part.Queries(inputs.Gate, nameof(inputs.Gate)),
    };
}
