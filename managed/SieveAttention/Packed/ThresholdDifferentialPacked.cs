namespace SieveAttention;

/// <summary><see cref="ThresholdDifferentialAttention"/> of packed sequences of different lengths.</summary>
public static class ThresholdDifferentialPacked
{
    /// <summary>
    /// Computes every sequence as a call of its own over its rows, into new tensors as Forward does. On a CUDA device the launches
    /// follow each other on the legacy default stream.
    /// </summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The CUDA device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static ThresholdDifferentialResult Forward(
        this ThresholdDifferentialAttention attention, ThresholdDifferentialInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        AttentionDevice device = attention.Device;
        TensorShape query = inputs.Query1.Shape;
        TensorShape rows = query with { Channels = 1 };
        ThresholdDifferentialResult? result = null;
        try
        {
            TensorShape output = query with { Channels = inputs.Value.Shape.Channels };
            result = new ThresholdDifferentialResult(
                device.Kind == AttentionDeviceKind.Cuda
                    ? AttentionTensor.Allocate(inputs.Query1.Type, output, device)
                    : HostTensors.Allocate(device, output),
                AttentionTensor.Allocate(TensorType.Int32, rows, device),
                inputs.Query2 is null ? null : AttentionTensor.Allocate(TensorType.Int32, rows, device));
            sequences.ForEach(part => attention.Forward(
                Part(part, inputs),
                new ThresholdDifferentialResult(
                    part.Queries(result.Output, "Output"),
                    part.Queries(result.Survivors1, "Survivors1"),
                    part.Queries(result.Survivors2, "Survivors2"))));
            return result;
        }
        catch
        {
            result?.Dispose();
            throw;
        }
    }

    /// <summary>Computes the gradients, with sums over sequences where they share an input or parameter.</summary>
    /// <param name="attention">The operator, on the Reference or Cpu device.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, rows of all sequences, Dv].</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device has no backward pass of this operator.</exception>
    public static ThresholdDifferentialGradients Backward(
        this ThresholdDifferentialAttention attention,
        ThresholdDifferentialInputs inputs,
        AttentionTensor outputGradient,
        PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        AttentionDevice device = attention.Device;
        DeviceGuard.OnlyOn(
            device, "Backward of packed sequences in threshold differential attention", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        double kappa = 0;
        AttentionTensor query1 = PackedViews.GradientOf(device, inputs.Query1);
        AttentionTensor key1 = PackedViews.GradientOf(device, inputs.Key1);
        AttentionTensor? query2 = PackedViews.GradientOf(device, inputs.Query2);
        AttentionTensor? key2 = PackedViews.GradientOf(device, inputs.Key2);
        AttentionTensor value = PackedViews.GradientOf(device, inputs.Value);
        AttentionTensor? normGain = PackedViews.GradientOf(device, inputs.NormGain);
        AttentionTensor? gate = PackedViews.GradientOf(device, inputs.Gate);
        double[] headBeta = new double[inputs.Query1.Shape.Heads];
        double[] headLambda = new double[inputs.Query1.Shape.Heads];
        sequences.ForEach(part =>
        {
            using ThresholdDifferentialGradients gradients = attention.Backward(
                Part(part, inputs), part.Queries(outputGradient, nameof(outputGradient)));
            part.PlaceQueries(gradients.Query1, query1);
            part.PlaceKeys(gradients.Key1, key1);
            part.PlaceQueries(gradients.Query2, query2);
            part.PlaceKeys(gradients.Key2, key2);
            part.PlaceKeys(gradients.Value, value);
            part.PlaceQueries(gradients.Gate, gate);
            PackedViews.Add(gradients.NormGain, normGain);
            PackedGradientSum.Add(gradients.HeadBeta, headBeta);
            PackedGradientSum.Add(gradients.HeadLambda, headLambda);
            kappa += gradients.Kappa;
        });
        return new ThresholdDifferentialGradients(query1, key1, query2, key2, value, normGain, gate, headBeta, kappa, headLambda);
    }

    private static void Check(ThresholdDifferentialAttention attention, ThresholdDifferentialInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        TensorGuard.Input(inputs.Query1, nameof(inputs.Query1), attention.Device);
        TensorGuard.Input(inputs.Value, nameof(inputs.Value), attention.Device);
    }

    private static ThresholdDifferentialInputs Part(PackedViews part, ThresholdDifferentialInputs inputs) => inputs with
    {
        Query1 = part.Queries(inputs.Query1, nameof(inputs.Query1)),
        Key1 = part.Keys(inputs.Key1, nameof(inputs.Key1)),
        Value = part.Keys(inputs.Value, nameof(inputs.Value)),
        Query2 = part.Queries(inputs.Query2, nameof(inputs.Query2)),
        Key2 = part.Keys(inputs.Key2, nameof(inputs.Key2)),
        Gate = part.Queries(inputs.Gate, nameof(inputs.Gate)),
    };
}
