using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>Gradients of differential attention in device memory.</summary>
/// <param name="Query1">Like the input, and so on.</param>
/// <param name="Key1">Of the first key view.</param>
/// <param name="Query2">Of the second query view.</param>
/// <param name="Key2">Of the second key view.</param>
/// <param name="Value">Of the values.</param>
/// <param name="Lambda">Float32 [1, heads, 1, 1] where lambda is one a head, else one value.</param>
/// <param name="NormGain">Float32 [1, 1, 1, Dv]; null without a gain.</param>
/// <param name="Gate">Float32, one a row; null without a gate.</param>
internal sealed record DeviceDifferentialGradients(
    AttentionTensor Query1,
    AttentionTensor Key1,
    AttentionTensor Query2,
    AttentionTensor Key2,
    AttentionTensor Value,
    AttentionTensor Lambda,
    AttentionTensor? NormGain,
    AttentionTensor? Gate);

/// <summary>Differential attention on one CUDA device: what kernels take beyond the checks that all devices share.</summary>
internal sealed class CudaDifferential(CudaDevice device, DifferentialOptions options)
{
    private readonly DeviceLambda? _headLambda = options.Lambda is { Count: > 1 } lambda ? DeviceLambda.Of(device, lambda) : null;

    /// <summary>Checks inputs that have passed the checks of all devices.</summary>
    internal void Check(DifferentialInputs inputs)
    {
        ProblemBuilder.CheckSameType(
            inputs.Query1,
            nameof(inputs.Query1),
            (inputs.Key1, nameof(inputs.Key1)),
            (inputs.Query2, nameof(inputs.Query2)),
            (inputs.Key2, nameof(inputs.Key2)),
            (inputs.Value, nameof(inputs.Value)));
        CudaSoftmax.CheckScores(device, options.Scores, "differential attention");
    }

    /// <summary>New tensors for a result; those of the views' own outputs are Float32.</summary>
    internal DifferentialResult Allocate(TensorType type, in AttentionProblem problem, bool viewOutputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            AttentionTensor output = Make(made, type, problem.OutputShape);
            AttentionTensor lse1 = Make(made, TensorType.Float32, problem.RowShape);
            AttentionTensor lse2 = Make(made, TensorType.Float32, problem.RowShape);
            return viewOutputs
                ? new DifferentialResult(
                    output,
                    lse1,
                    lse2,
                    Make(made, TensorType.Float32, problem.OutputShape),
                    Make(made, TensorType.Float32, problem.OutputShape))
                : new DifferentialResult(output, lse1, lse2);
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    internal void Forward(
        DifferentialInputs inputs,
        DifferentialLambda lambda,
        DifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace) =>
        NativeDifferential.Forward(device, options, Native(lambda), inputs, into, stream, workspace);

    /// <summary>New tensors with the gradients. Waits for them, because the gradient of lambda is numbers.</summary>
    internal DifferentialGradients Backward(
        in AttentionProblem problem,
        DifferentialInputs inputs,
        DifferentialLambda lambda,
        DifferentialResult forward,
        AttentionTensor outputGradient,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        List<AttentionTensor> made = [];
        try
        {
            DeviceDifferentialGradients into = new(
                Make(made, inputs.Query1.Type, problem.QueryShape),
                Make(made, inputs.Key1.Type, problem.KeyShape),
                Make(made, inputs.Query2.Type, problem.QueryShape),
                Make(made, inputs.Key2.Type, problem.KeyShape),
                Make(made, inputs.Value.Type, problem.ValueShape),
                Make(made, TensorType.Float32, new TensorShape(1, _headLambda is null ? 1 : problem.QueryHeads, 1, 1)),
                inputs.NormGain is null ? null : Make(made, TensorType.Float32, inputs.NormGain.Shape),
                inputs.Gate is null ? null : Make(made, TensorType.Float32, problem.RowShape));
            NativeDifferential.Backward(
                device, options, Native(lambda), inputs, forward, outputGradient, into, stream, workspace);
            using AttentionTensor sums = into.Lambda.ToHost(stream);
            double[] dlambda = HostArray<double>.Read(sums).Data;
            into.Lambda.Dispose();
            return new DifferentialGradients
            {
                Query1 = into.Query1,
                Key1 = into.Key1,
                Query2 = into.Query2,
                Key2 = into.Key2,
                Value = into.Value,
                Lambda = dlambda,
                LambdaVectors = HostTensors.WrapOptional(lambda.VectorGradient<float>(dlambda)),
                NormGain = into.NormGain,
                Gate = into.Gate,
            };
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    private AttentionTensor Make(List<AttentionTensor> made, TensorType type, TensorShape shape)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        made.Add(tensor);
        return tensor;
    }

    private DeviceLambda Native(DifferentialLambda lambda) => _headLambda ?? DeviceLambda.Of(lambda.PerHead[0]);
}
