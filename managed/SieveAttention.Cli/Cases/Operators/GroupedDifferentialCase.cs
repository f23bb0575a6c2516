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
        return Run(
            device,
            () => attention.Backward(inputs, outputGradient),
            _ => attention.Backward(inputs, outputGradient).Dispose(),
            gradients => StoreGradients(
                device,
                ("q", gradients.Query),
                ("k", gradients.Key),
                ("v", gradients.Value),
                ("lambda_logit", gradients.LambdaLogit),
                ("gate", gradients.Gate)));
    }

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
