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
        return Run(
            device,
            () => attention.Backward(inputs, outputGradient),
            _ => attention.Backward(inputs, outputGradient).Dispose(),
            gradients =>
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
                .. Inputs.Has(Vectors) ? [] : new[] { CaseResult.Store("dlambda", gradients.Lambda, device) },
            ]);
    }

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
