using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>Grouped differential attention on one CUDA device: what kernels take beyond the checks that all devices share.</summary>
internal sealed class CudaGroupedDifferential(CudaDevice device, GroupedDifferentialOptions options)
{
    /// <summary>Checks inputs that have passed the checks of all devices.</summary>
    internal void Check(GroupedDifferentialInputs inputs)
    {
        ProblemBuilder.CheckSameType(
            inputs.Query, nameof(inputs.Query), (inputs.Key, nameof(inputs.Key)), (inputs.Value, nameof(inputs.Value)));
        TensorGuard.Type(inputs.LambdaLogit, nameof(inputs.LambdaLogit), TensorType.Float32);
        CudaSoftmax.CheckScores(device, options.Scores, "grouped differential attention");
    }

    /// <summary>New tensors for a result; that of the heads' own outputs is Float32.</summary>
    internal GroupedDifferentialResult Allocate(
        TensorType type, in AttentionProblem problem, in AttentionProblem output, bool headOutputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            AttentionTensor signals = Make(made, type, output.OutputShape);
            AttentionTensor lse = Make(made, TensorType.Float32, problem.RowShape);
            return headOutputs
                ? new GroupedDifferentialResult(signals, lse, Make(made, TensorType.Float32, problem.OutputShape))
                : new GroupedDifferentialResult(signals, lse);
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    internal void Forward(
        GroupedDifferentialInputs inputs, GroupedDifferentialResult into, AttentionStream? stream, DeviceWorkspace? workspace) =>
        NativeGroupedDifferential.Forward(device, options, inputs, into, stream, workspace);

    /// <summary>New tensors for the gradients of everything that the inputs have.</summary>
    internal GroupedDifferentialGradients AllocateGradients(
        in AttentionProblem problem, in AttentionProblem output, GroupedDifferentialInputs inputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new GroupedDifferentialGradients
            {
                Query = Make(made, inputs.Query.Type, problem.QueryShape),
                Key = Make(made, inputs.Key.Type, problem.KeyShape),
                Value = Make(made, inputs.Value.Type, problem.ValueShape),
                LambdaLogit = Make(made, TensorType.Float32, output.RowShape),
                NormGain = inputs.NormGain is null ? null : Make(made, TensorType.Float32, inputs.NormGain.Shape),
                Gate = inputs.Gate is null ? null : Make(made, TensorType.Float32, output.RowShape),
            };
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    /// <summary>Checks tensors for gradients.</summary>
    internal void CheckGradients(in AttentionProblem output, GroupedDifferentialInputs inputs, GroupedDifferentialGradients into)
    {
        CudaSoftmax.Like(device, inputs.Query, into.Query, nameof(into.Query));
        CudaSoftmax.Like(device, inputs.Key, into.Key, nameof(into.Key));
        CudaSoftmax.Like(device, inputs.Value, into.Value, nameof(into.Value));
        CudaSoftmax.Like(device, inputs.LambdaLogit, into.LambdaLogit, nameof(into.LambdaLogit));
        CudaSoftmax.CheckEpilogueGradients(device, output, inputs.NormGain, into.NormGain, inputs.Gate, into.Gate);
    }

    internal void Backward(
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult forward,
        AttentionTensor outputGradient,
        GroupedDifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace) =>
        NativeGroupedDifferential.Backward(device, options, inputs, forward, outputGradient, into, stream, workspace);

    private AttentionTensor Make(List<AttentionTensor> made, TensorType type, TensorShape shape)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        made.Add(tensor);
        return tensor;
    }
}
