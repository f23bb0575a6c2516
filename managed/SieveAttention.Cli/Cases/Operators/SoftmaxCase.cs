using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of softmax attention.</summary>
internal sealed class SoftmaxCase(string file, AttentionProblem problem, CaseInputs inputs, SoftmaxOptions options)
    : SingleViewCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "softmax";

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public SoftmaxOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters => CommonParts.Describe(Options.Scores) is { Length: > 0 } text ? text.Trim() : "no parameters";

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        SoftmaxAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        using DeviceWorkspace? workspace = device is CudaDevice cuda ? new DeviceWorkspace(cuda) : null;
        AttentionInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into, workspace: workspace),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("lse", result.LogSumExp, RowShape, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        SoftmaxAttention attention = new(device, Options);
        return device is CudaDevice cuda ? BackwardOnDevice(cuda, attention) : Backward(device, attention.Backward);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> PlainGradients(TensorType type)
    {
        CaseInputs inputs = Rounded(type).Inputs;
        ScoreTerms<float> terms = Options.Scores.ToTerms<float>(Problem, rowFactors: null);
        PlainSoftmax plain = new(
            type, Problem, terms, inputs.Read<float>("q"), inputs.Read<float>("k"), inputs.Read<float>("v"));
        PlainSoftmax.Gradients gradients = plain.Backward(inputs.Read<float>("dout"), PlainEpilogue);
        return
        [
            .. StoreGradients(
                AttentionDevice.Cpu,
                ("q", HostTensors.Wrap(gradients.Query)),
                ("k", HostTensors.Wrap(gradients.Key)),
                ("v", HostTensors.Wrap(gradients.Value)),
                ("gate", HostTensors.WrapOptional(gradients.Gate))),
            .. StoreRowFactor(RowFactorGradients.Of(Options.Scores.RowFactor, Problem, gradients.RowFactor), AttentionDevice.Cpu),
        ];
    }

    /// <summary>The time is that of the backward pass alone: the forward pass ran before.</summary>
    private CaseResult BackwardOnDevice(CudaDevice device, SoftmaxAttention attention)
    {
        using LoadedTensors loaded = new(Inputs, device);
        using DeviceWorkspace workspace = new(device);
        AttentionInputs inputs = OperatorInputs(loaded);
        AttentionTensor outputGradient = loaded["dout"];
        using SoftmaxResult forward = attention.Forward(inputs);
        return Backward(
            device,
            () =>
            {
                AttentionGradients gradients = attention.AllocateGradients(inputs);
                attention.Backward(inputs, forward, outputGradient, gradients, workspace: workspace);
                return gradients;
            },
            gradients => attention.Backward(inputs, forward, outputGradient, gradients, workspace: workspace));
    }

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new SoftmaxCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }
}
