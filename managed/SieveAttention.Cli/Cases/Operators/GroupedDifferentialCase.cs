using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of grouped differential attention.</summary>
internal sealed class GroupedDifferentialCase(
    string file, AttentionProblem problem, CaseInputs inputs, GroupedDifferentialOptions options)
    : AttentionCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "diff_v2";

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public GroupedDifferentialOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters => $"signals {Options.Signals}{CommonParts.Describe(Options.Scores)}";

    /// <inheritdoc/>
    public override string? WeightsAbsence
    {
        get
        {
            int heads = Problem.QueryHeads / Problem.KeyHeads;
            return heads % (Options.Signals + 1) == 0
                ? null
                : $"no single weight for each key, because groups of {Options.Signals + 1} query heads span several key heads "
                    + $"({heads} query heads each)";
        }
    }

    /// <inheritdoc/>
    protected override int OutputHeads => Problem.QueryHeads / (Options.Signals + 1) * Options.Signals;

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        GroupedDifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        GroupedDifferentialInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("lse", result.LogSumExp, RowShape, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        GroupedDifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        GroupedDifferentialInputs inputs = OperatorInputs(loaded);
        AttentionTensor outputGradient = loaded["dout"];
        if (device is not CudaDevice cuda)
        {
            return Run(
                device,
                () => attention.Backward(inputs, outputGradient),
                _ => attention.Backward(inputs, outputGradient).Dispose(),
                gradients => StoreGradients(gradients, device));
        }
        // The time is that of the backward pass alone: the forward pass ran before.
        using DeviceWorkspace workspace = new(cuda);
        using GroupedDifferentialResult forward = attention.AllocateResult(inputs);
        attention.Forward(inputs, forward, workspace: workspace);
        return Run(
            device,
            () =>
            {
                GroupedDifferentialGradients gradients = attention.AllocateGradients(inputs);
                attention.Backward(inputs, forward, outputGradient, gradients, workspace: workspace);
                return gradients;
            },
            gradients => attention.Backward(inputs, forward, outputGradient, gradients, workspace: workspace),
            gradients => StoreGradients(gradients, device));
    }

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> PlainGradients(TensorType type)
    {
        CaseInputs inputs = Rounded(type).Inputs;
        GroupedDifferentialParameters parameters = Options.ToParameters();
        ScoreTerms<float> terms = Options.Scores.ToTerms<float>(Problem, rowFactors: null);
        PlainSoftmax heads = new(type, Problem, terms, inputs.Read<float>("q"), inputs.Read<float>("k"), inputs.Read<float>("v"));
        HostArray<float> outputs = new(Problem.OutputShape);
        heads.Forward(PlainDifferential.None).CopyTo(outputs.Data, 0);
        HostArray<float> logits = inputs.Read<float>("lambda_logit");
        PlainDifferential.Gradients rows = new PlainDifferential(type, PlainEpilogue).Backward(
            outputs,
            outputs,
            head => new PlainDifferential.Pair(
                parameters.SignalHead(head), parameters.NoiseHead(head), (batch, row) => Sigmoid(logits.Row(batch, head, row)[0])),
            inputs.Read<float>("dout"));
        PlainSoftmax.Gradients gradients = heads.Backward(rows.First, PlainDifferential.None);
        for (int i = 0; i < rows.Weight.Data.Length; i++)
        {
            float sigmoid = Sigmoid(logits.Data[i]);
            rows.Weight.Data[i] *= sigmoid * (1 - sigmoid);
        }
        return
        [
            .. StoreGradients(
                AttentionDevice.Cpu,
                ("q", HostTensors.Wrap(gradients.Query)),
                ("k", HostTensors.Wrap(gradients.Key)),
                ("v", HostTensors.Wrap(gradients.Value)),
                ("lambda_logit", HostTensors.Wrap(rows.Weight)),
                ("gate", Inputs.Has("gate") ? HostTensors.Wrap(rows.Gate) : null)),
        ];
    }

    private static float Sigmoid(float logit) => 1 / (1 + MathF.Exp(-logit));

    private IEnumerable<StoredTensor> StoreGradients(GroupedDifferentialGradients gradients, AttentionDevice device) =>
        StoreGradients(
            device,
            ("q", gradients.Query),
            ("k", gradients.Key),
            ("v", gradients.Value),
            ("lambda_logit", gradients.LambdaLogit),
            ("gate", gradients.Gate));

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new GroupedDifferentialCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }

    private static GroupedDifferentialInputs OperatorInputs(LoadedTensors loaded) => new()
    {
        Query = loaded["q"],
        Key = loaded["k"],
        Value = loaded["v"],
        LambdaLogit = loaded["lambda_logit"],
        Gate = loaded.Optional("gate"),
    };
}
