namespace SieveAttention;

/// <summary><see cref="SoftmaxAttention"/> of packed sequences of different lengths.</summary>
public static class SoftmaxPacked
{
    /// <summary>
    /// Computes into new tensors as Forward does: every sequence as a call of its own over its rows on a host device, all of them in one
    /// launch on a CUDA device, where the batch has one entry.
    /// </summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The result with the rows of all sequences, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static SoftmaxResult Forward(
        this SoftmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        if (attention.Device.Kind == AttentionDeviceKind.Cuda)
        {
            return attention.ForwardNew(inputs, sequences);
        }

        TensorShape query = inputs.Query.Shape;
        SoftmaxResult result = new(
            HostTensors.Allocate(attention.Device, query with { Channels = inputs.Value.Shape.Channels }),
            HostTensors.Allocate(attention.Device, query with { Channels = 1 }));
        sequences.ForEach(part => attention.Forward(
            part.Inputs(inputs),
            new SoftmaxResult(part.Queries(result.Output, "Output"), part.Queries(result.LogSumExp, "LogSumExp"))));
        return result;
    }

    /// <summary>
    /// Computes into the caller's tensors, on a CUDA device. With a workspace this allocates no device memory once the workspace has grown,
    /// and never synchronizes after the first call with these sequences.
    /// </summary>
    /// <param name="attention">The operator; a query offset of its mask counts in each sequence anew.</param>
    /// <param name="inputs">Tensors whose rows are those of all sequences.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <param name="into">Tensors to write; they must not share memory with the inputs.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">As Forward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Forward(
        this SoftmaxAttention attention,
        AttentionInputs inputs,
        PackedSequences sequences,
        SoftmaxResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        Check(attention, inputs, sequences);
        attention.RequireCuda("Packed softmax attention into given tensors");
        attention.ForwardInto(inputs, sequences, into, stream, workspace);
    }

    /// <summary>
    /// Computes the gradients, with sums over sequences where they share an input or parameter. On a CUDA device this runs the forward pass
    /// again; the overload with its result does not.
    /// </summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, rows of all sequences, Dv].</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static AttentionGradients Backward(
        this SoftmaxAttention attention, AttentionInputs inputs, AttentionTensor outputGradient, PackedSequences sequences)
    {
        Check(attention, inputs, sequences);
        ArgumentNullException.ThrowIfNull(outputGradient);
        if (attention.Device.Kind == AttentionDeviceKind.Cuda)
        {
            return attention.BackwardNew(inputs, sequences, outputGradient);
        }

        PackedGradientSum sum = new(attention.Device, inputs, attention.Options.Scores.RowFactor);
        sequences.ForEach(part =>
        {
            using AttentionGradients gradients = attention.Backward(
                part.Inputs(inputs), part.Queries(outputGradient, nameof(outputGradient)));
            sum.Add(part, gradients);
        });
        return new AttentionGradients(sum.Tensors);
    }

    /// <summary>Computes the gradients into the caller's tensors, from the result of the forward pass: CUDA devices only.</summary>
    /// <param name="attention">The operator.</param>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="forward">The result of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [1, Hq, rows of all sequences, Dv], of the inputs' type.</param>
    /// <param name="sequences">Where sequences begin.</param>
    /// <param name="into">Tensors to write; absent ones are not computed.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">As Backward; or a tensor has not as many rows as the sequences.</exception>
    /// <exception cref="NotSupportedException">The operator is on a host device, or the device has no kernel for these sizes.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public static void Backward(
        this SoftmaxAttention attention,
        AttentionInputs inputs,
        SoftmaxResult forward,
        AttentionTensor outputGradient,
        PackedSequences sequences,
        AttentionGradients into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        Check(attention, inputs, sequences);
        attention.BackwardInto(inputs, sequences, forward, outputGradient, into, stream, workspace);
    }

    private static void Check(SoftmaxAttention attention, AttentionInputs inputs, PackedSequences sequences)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(sequences);
        TensorGuard.Input(inputs.Query, nameof(inputs.Query), attention.Device);
        TensorGuard.Input(inputs.Key, nameof(inputs.Key), attention.Device);
        TensorGuard.Input(inputs.Value, nameof(inputs.Value), attention.Device);
        if (attention.Device.Kind == AttentionDeviceKind.Cuda)
        {
            PackedViews.CheckRows(inputs, sequences);
        }
    }
}
