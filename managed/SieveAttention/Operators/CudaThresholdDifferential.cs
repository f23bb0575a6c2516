using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>
/// Threshold differential attention on one CUDA device: what kernels take beyond the checks that all devices share, and the tensors
/// for their results.
/// </summary>
internal sealed class CudaThresholdDifferential(CudaDevice device, ThresholdDifferentialOptions options)
{
    private const int TileRows = 64;
    private const int WordKeys = 1024;

    /// <summary>Checks inputs that have passed the checks of all devices.</summary>
    internal static void Check(ThresholdDifferentialInputs inputs)
    {
        ProblemBuilder.CheckSameType(
            inputs.Query1,
            nameof(inputs.Query1),
            (inputs.Key1, nameof(inputs.Key1)),
            (inputs.Query2, nameof(inputs.Query2)),
            (inputs.Key2, nameof(inputs.Key2)),
            (inputs.Value, nameof(inputs.Value)));
    }

    /// <summary>Checks tensors for a result beyond those that all devices have.</summary>
    internal void CheckResult(in AttentionProblem problem, ThresholdDifferentialResult into)
    {
        if (into.SurvivorTiles is { } tiles)
        {
            TensorGuard.Output(
                tiles, nameof(into.SurvivorTiles), device, TileShape(problem), "[B, Hq, ceil(Tq / 64), ceil(Tk / 1024)]", TensorType.Int32);
        }
    }

    /// <summary>Checks tensors for gradients.</summary>
    internal void CheckGradients(
        in AttentionProblem problem, ThresholdDifferentialInputs inputs, ThresholdDifferentialGradients into)
    {
        Like(inputs.Query1, into.Query1, nameof(into.Query1));
        Like(inputs.Key1, into.Key1, nameof(into.Key1));
        View(inputs.Query2, into.Query2, nameof(into.Query2));
        View(inputs.Key2, into.Key2, nameof(into.Key2));
        Like(inputs.Value, into.Value, nameof(into.Value));
        if (into.NormGain is { } gain)
        {
            Wanted(options.Epilogue.Norm != OutputNorm.None, nameof(into.NormGain), "a norm");
            TensorGuard.Output(gain, "NormGain gradient", device, GainShape(problem), "[1, 1, 1, Dv]", TensorType.Float32);
            TensorGuard.Dense(gain, "NormGain gradient");
        }

        if (into.Gate is { } gate)
        {
            Wanted(inputs.Gate is not null, nameof(into.Gate), "a gate");
            ProblemBuilder.CheckRows(device, problem, gate, "Gate gradient");
        }

        if (into.Parameters is { } parameters)
        {
            TensorGuard.Output(
                parameters,
                nameof(into.Parameters),
                device,
                ThresholdDifferentialGradients.ParameterShape(problem.QueryHeads),
                "[1, 3, query heads, 1]",
                TensorType.Float32);
            TensorGuard.Dense(parameters, nameof(into.Parameters));
        }
    }

    /// <summary>New tensors for a result: the output in the type of the queries.</summary>
    internal ThresholdDifferentialResult Allocate(ThresholdDifferentialInputs inputs, in AttentionProblem problem)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new ThresholdDifferentialResult(
                Make(made, inputs.Query1.Type, problem.OutputShape),
                Make(made, TensorType.Int32, problem.RowShape),
                inputs.Query2 is null ? null : Make(made, TensorType.Int32, problem.RowShape),
                Make(made, TensorType.Int32, TileShape(problem)));
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    /// <summary>New tensors for the gradients of everything that there is.</summary>
    internal ThresholdDifferentialGradients AllocateGradients(in AttentionProblem problem, ThresholdDifferentialInputs inputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new ThresholdDifferentialGradients(
                Make(made, inputs.Query1.Type, problem.QueryShape),
                Make(made, inputs.Key1.Type, problem.KeyShape),
                inputs.Query2 is null ? null : Make(made, inputs.Query2.Type, problem.QueryShape),
                inputs.Key2 is null ? null : Make(made, inputs.Key2.Type, problem.KeyShape),
                Make(made, inputs.Value.Type, problem.ValueShape),
                inputs.NormGain is null ? null : Make(made, TensorType.Float32, GainShape(problem)),
                inputs.Gate is null ? null : Make(made, TensorType.Float32, problem.RowShape),
                Make(made, TensorType.Float32, ThresholdDifferentialGradients.ParameterShape(problem.QueryHeads)));
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }
    }

    internal void Forward(
        ThresholdDifferentialInputs inputs, ThresholdDifferentialResult into, AttentionStream? stream, DeviceWorkspace? workspace)
    {
        RequireCommonParameters();
        NativeThresholdDifferential.Forward(device, options, inputs, into, stream, workspace);
    }

    internal void Backward(
        ThresholdDifferentialInputs inputs,
        AttentionTensor? survivorTiles,
        AttentionTensor outputGradient,
        ThresholdDifferentialGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        RequireCommonParameters();
        NativeThresholdDifferential.Backward(device, options, inputs, survivorTiles, outputGradient, into, stream, workspace);
        into.MarkWritten(stream);
    }

    private static TensorShape TileShape(in AttentionProblem problem) => new(
        problem.Batch, problem.QueryHeads, (problem.Queries + TileRows - 1) / TileRows, (problem.Keys + WordKeys - 1) / WordKeys);

    private static TensorShape GainShape(in AttentionProblem problem) => new(1, 1, 1, problem.ValueShape.Channels);

    private AttentionTensor Make(List<AttentionTensor> made, TensorType type, TensorShape shape)
    {
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        made.Add(tensor);
        return tensor;
    }

    private void View(AttentionTensor? input, AttentionTensor? gradient, string name)
    {
        if (input is not null && gradient is not null)
        {
            Like(input, gradient, name);
        }
        else if (input is not null || gradient is not null)
        {
            throw Guard.Tensor(name, $"{name} or its gradient is absent; allowed: both, or neither.");
        }
    }

    private void Like(AttentionTensor input, AttentionTensor gradient, string name) => TensorGuard.Output(
        gradient, $"{name} gradient", device, input.Shape, $"the shape of {name}", input.Type, TensorType.Float32);

    private void RequireCommonParameters()
    {
        if (options.HeadBeta is not null || options.HeadLambda is not null)
        {
            throw new NotSupportedException(
                "HeadBeta or HeadLambda is given; a CUDA device takes one Beta and one Lambda for all heads, the host devices take one a head.");
        }
    }

    private static void Wanted(bool wanted, string name, string what)
    {
        if (!wanted)
        {
            throw Guard.Tensor(name, $"A tensor for the gradient {name} is given; allowed: only with {what}.");
        }
    }
}
