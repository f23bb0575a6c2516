namespace SieveAttention;

/// <summary><see cref="DifferentialAttention"/> of packed sequences of different lengths, on the Reference and Cpu devices.</summary>
public static class DifferentialPacked
{
    /// <summary>Computes every sequence as a call of its own over its rows, into new tensors as Forward does.</summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public static DifferentialResult Forward(
        this DifferentialAttention attention, DifferentialInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        AttentionDevice device = attention.Device;
        TensorShape query = inputs.Query1.Shape;
        DifferentialResult result = new(
            HostTensors.Allocate(device, query with { Channels = inputs.Value.Shape.Channels }),
            HostTensors.Allocate(device, query with { Channels = 1 }),
            HostTensors.Allocate(device, query with { Channels = 1 }));
        sequences.ForEach(part => attention.Forward(
            Part(part, inputs),
            new DifferentialResult(
                part.Queries(result.Output, "Output"),
                part.Queries(result.LogSumExp1, "LogSumExp1"),
                part.Queries(result.LogSumExp2, "LogSumExp2"))));
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
    public static DifferentialGradients Backward(
        this DifferentialAttention attention, DifferentialInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        AttentionDevice device = attention.Device;
        DifferentialGradients? whole = null;
        double[] lambda = [];
        sequences.ForEach(part =>
        {
            using DifferentialGradients gradients = attention.Backward(
                Part(part, inputs), part.Queries(outputGradient, nameof(outputGradient)));
            if (whole is null)
            {
                lambda = new double[gradients.Lambda.Count];
                whole = Empty(device, inputs, lambda);
            }

            part.PlaceQueries(gradients.Query1, whole.Query1);
            part.PlaceQueries(gradients.Query2, whole.Query2);
            part.PlaceKeys(gradients.Key1, whole.Key1);
            part.PlaceKeys(gradients.Key2, whole.Key2);
            part.PlaceKeys(gradients.Value, whole.Value);
            part.PlaceQueries(gradients.Gate, whole.Gate);
            PackedViews.Add(gradients.LambdaVectors, whole.LambdaVectors);
            PackedViews.Add(gradients.NormGain, whole.NormGain);
            PackedGradientSum.Add(gradients.Lambda, lambda);
        });
        return whole ?? throw Guard.Values(nameof(sequences), "The sequences have no query row; allowed: at least one.");
    }

    /// <summary>Gradients of 0; there is at least one query row, so at least one sequence adds to them.</summary>
    private static DifferentialGradients Empty(AttentionDevice device, DifferentialInputs inputs, double[] lambda) => new()
    {
        Query1 = PackedViews.GradientOf(device, inputs.Query1),
        Key1 = PackedViews.GradientOf(device, inputs.Key1),
        Query2 = PackedViews.GradientOf(device, inputs.Query2),
        Key2 = PackedViews.GradientOf(device, inputs.Key2),
        Value = PackedViews.GradientOf(device, inputs.Value),
        Lambda = lambda,
        LambdaVectors = PackedViews.GradientOf(device, inputs.LambdaVectors),
        NormGain = PackedViews.GradientOf(device, inputs.NormGain),
        Gate = PackedViews.GradientOf(device, inputs.Gate),
    };

    private static void Check(DifferentialAttention attention, DifferentialInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        PackedViews.Check(attention.Device, inputs.Query1, nameof(inputs.Query1), inputs.Value);
    }

    private static DifferentialInputs Part(PackedViews part, DifferentialInputs inputs) => inputs with
    {
        Query1 = part.Queries(inputs.Query1, nameof(inputs.Query1)),
        Query2 = part.Queries(inputs.Query2, nameof(inputs.Query2)),
        Key1 = part.Keys(inputs.Key1, nameof(inputs.Key1)),
        Key2 = part.Keys(inputs.Key2, nameof(inputs.Key2)),
        Value = part.Keys(inputs.Value, nameof(inputs.Value)),
        Gate = part.Queries(inputs.Gate, nameof(inputs.Gate)),
    };
}
