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
        AttentionInputs inputs = OperatorInputs(loaded);
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
    public override CaseResult Backward(AttentionDevice device) => Backward(device, new SoftmaxAttention(device, Options).Backward);

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new SoftmaxCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }
}
