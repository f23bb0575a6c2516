using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of differential attention.</summary>
internal sealed class DifferentialCase(string file, AttentionProblem problem, CaseInputs inputs, DifferentialOptions options)
    : AttentionCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "diff";

    private const string Vectors = "lambda_vectors";

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public DifferentialOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters
    {
        get
        {
            string lambda = Options.LambdaInit is { } init
                ? $"lambda from vectors (lambda_init {Text.Parameter(init)})"
                : $"lambda {Text.Parameter(Options.Lambda![0])}";
            return $"{lambda}{CommonParts.Describe(Options.Scores)}{CommonParts.Describe(Options.Epilogue)}";
        }
    }

    /// <inheritdoc/>
    protected override OutputEpilogue Epilogue => Options.Epilogue;

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        DifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        DifferentialInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("lse1", result.LogSumExp1, RowShape, device),
                CaseResult.Store("lse2", result.LogSumExp2, RowShape, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        DifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        DifferentialInputs inputs = OperatorInputs(loaded);
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
        using DifferentialResult forward = attention.AllocateResult(inputs);
        attention.Forward(inputs, forward, workspace: workspace);
        return Run(
            device,
            () =>
            {
                DifferentialGradients gradients = attention.AllocateGradients(inputs);
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
        using LoadedTensors loaded = new(inputs, AttentionDevice.Reference);
        DifferentialLambda lambda = DifferentialLambda.Read(Options, loaded.Optional(Vectors), Problem.QueryHeads);
        ScoreTerms<float> terms = Options.Scores.ToTerms<float>(Problem, rowFactors: null);
        HostArray<float> v = inputs.Read<float>("v");
        PlainSoftmax[] views =
        [
            new(type, Problem, terms, inputs.Read<float>("q1"), inputs.Read<float>("k1"), v),
            new(type, Problem, terms, inputs.Read<float>("q2"), inputs.Read<float>("k2"), v),
        ];
        HostArray<float>[] outputs = [new(Problem.OutputShape), new(Problem.OutputShape)];
        for (int view = 0; view < 2; view++)
        {
            views[view].Forward(PlainDifferential.None).CopyTo(outputs[view].Data, 0);
        }
        PlainDifferential.Gradients rows = new PlainDifferential(type, PlainEpilogue).Backward(
            outputs[0],
            outputs[1],
            head => new PlainDifferential.Pair(head, head, (_, _) => (float)lambda.PerHead[head]),
            inputs.Read<float>("dout"));
        PlainSoftmax.Gradients first = views[0].Backward(rows.First, PlainDifferential.None);
        PlainSoftmax.Gradients second = views[1].Backward(rows.Second, PlainDifferential.None);
        HostArray<float> dv = new(Problem.ValueShape);
        for (int i = 0; i < dv.Data.Length; i++)
        {
            dv.Data[i] = PlainEvaluation.Round(first.Value.Data[i] + second.Value.Data[i], type);
        }
        double[] dlambda = [rows.Weight.Data.Sum(value => (double)value)];
        return
        [
            .. StoreGradients(
                AttentionDevice.Cpu,
                ("q1", HostTensors.Wrap(first.Query)),
                ("k1", HostTensors.Wrap(first.Key)),
                ("q2", HostTensors.Wrap(second.Query)),
                ("k2", HostTensors.Wrap(second.Key)),
                ("v", HostTensors.Wrap(dv)),
                (Vectors, HostTensors.WrapOptional(lambda.VectorGradient<float>(dlambda))),
                ("norm_gain", Inputs.Has("norm_gain") ? HostTensors.WrapChannels(rows.NormGain) : null),
                ("gate", Inputs.Has("gate") ? HostTensors.Wrap(rows.Gate) : null)),
            .. StoreLambda(dlambda, AttentionDevice.Cpu),
        ];
    }

    private IEnumerable<StoredTensor> StoreGradients(DifferentialGradients gradients, AttentionDevice device) =>
    [
        .. StoreGradients(
            device,
            ("q1", gradients.Query1),
            ("k1", gradients.Key1),
            ("q2", gradients.Query2),
            ("k2", gradients.Key2),
            ("v", gradients.Value),
            (Vectors, gradients.LambdaVectors),
            ("norm_gain", gradients.NormGain),
            ("gate", gradients.Gate)),
        .. StoreLambda(gradients.Lambda, device),
    ];

    private StoredTensor[] StoreLambda(IReadOnlyList<double> dlambda, AttentionDevice device) =>
        Inputs.Has(Vectors) ? [] : [CaseResult.Store("dlambda", dlambda, device)];

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new DifferentialCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }

    private static DifferentialInputs OperatorInputs(LoadedTensors loaded) => new()
    {
        Query1 = loaded["q1"],
        Key1 = loaded["k1"],
        Query2 = loaded["q2"],
        Key2 = loaded["k2"],
        Value = loaded["v"],
        LambdaVectors = loaded.Optional(Vectors),
        NormGain = loaded.Optional("norm_gain"),
        Gate = loaded.Optional("gate"),
    };
}
