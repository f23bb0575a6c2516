using SieveAttention.Interop;

namespace SieveAttention;

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

    /// <summary>New tensors for the gradients of everything that the inputs have.</summary>
    internal DifferentialGradients AllocateGradients(in AttentionProblem problem, DifferentialInputs inputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new DifferentialGradients
            {
                Query1 = Make(made, inputs.Query1.Type, problem.QueryShape),
                Key1 = Make(made, inputs.Key1.Type, problem.KeyShape),
                Query2 = Make(made, inputs.Query2.Type, problem.QueryShape),
                Key2 = Make(made, inputs.Key2.Type, problem.KeyShape),
                Value = Make(made, inputs.Value.Type, problem.ValueShape),
                LambdaSums = Make(made, TensorType.Float32, LambdaShape(problem)),
                NormGain = inputs.NormGain is null ? null : Make(made, TensorType.Float32, inputs.NormGain.Shape),
                Gate = inputs.Gate is null ? null : Make(made, TensorType.Float32, problem.RowShape),
            };
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    /// <summary>Checks tensors for gradients.</summary>
    internal void CheckGradients(in AttentionProblem problem, DifferentialInputs inputs, DifferentialGradients into)
    {
        CudaSoftmax.Like(device, inputs.Query1, into.Query1, nameof(into.Query1));
        CudaSoftmax.Like(device, inputs.Key1, into.Key1, nameof(into.Key1));
        CudaSoftmax.Like(device, inputs.Query2, into.Query2, nameof(into.Query2));
        CudaSoftmax.Like(device, inputs.Key2, into.Key2, nameof(into.Key2));
        CudaSoftmax.Like(device, inputs.Value, into.Value, nameof(into.Value));
        CudaSoftmax.CheckEpilogueGradients(device, problem, inputs.NormGain, into.NormGain, inputs.Gate, into.Gate);
        if (into.LambdaSums is not { } sums)
        {
            throw Guard.Tensor(nameof(into.LambdaSums), "LambdaSums is absent; gradients for a CUDA device come from AllocateGradients.");
        }

        TensorGuard.Output(
            sums, nameof(into.LambdaSums), device, LambdaShape(problem), "[1, lambdas, 1, 1]", TensorType.Float32);
        TensorGuard.Dense(sums, nameof(into.LambdaSums));
    }

    internal void Backward(
        DifferentialInputs inputs,
        DifferentialLambda lambda,
        DifferentialResult forward,
        AttentionTensor outputGradient,
        DifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        NativeDifferential.Backward(device, options, Native(lambda), inputs, forward, outputGradient, into, stream, workspace);
        into.Written(lambda, stream);
    }

    private TensorShape LambdaShape(in AttentionProblem problem) => new(1, _headLambda is null ? 1 : problem.QueryHeads, 1, 1);

    private AttentionTensor Make(List<AttentionTensor> made, TensorType type, TensorShape shape)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        made.Add(tensor);
        return tensor;
    }

    private DeviceLambda Native(DifferentialLambda lambda) => _headLambda ?? DeviceLambda.Of(lambda.PerHead[0]);
}
