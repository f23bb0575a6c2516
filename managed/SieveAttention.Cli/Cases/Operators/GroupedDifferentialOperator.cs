namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of grouped differential attention, <c>op = diff_v2</c>.</summary>
internal sealed class GroupedDifferentialOperator : CaseOperator
{
    /// <inheritdoc/>
    public override string Name => GroupedDifferentialCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        GroupedDifferentialOptions options = new()
        {
            Signals = (int)(metadata.OptionalInteger("signals", 1, int.MaxValue - 1) ?? 1),
            Scores = CommonParts.ReadScale(metadata),
            Mask = CommonParts.ReadMask(metadata),
        };
        AttentionProblem problem = CommonParts.ReadView(tensors, "q", "k", "v", options.Mask);
        int group = options.Signals + 1;
        if (problem.QueryHeads % group != 0)
        {
            throw tensors.Refuse("q", $"{problem.QueryHeads} heads", $"a multiple of {group}: {options.Signals} signals and their noise");
        }
        int[] outputShape = [problem.Batch, problem.QueryHeads / group * options.Signals, problem.Queries, problem.ValueDim];
        CaseInputs inputs = new(file);
        inputs.AddOperand(tensors.Required("q", [problem.Batch, problem.QueryHeads, problem.Queries, problem.HeadDim]));
        inputs.AddOperand(tensors.Required("k", [problem.Batch, problem.KeyHeads, problem.Keys, problem.HeadDim]));
        inputs.AddOperand(tensors.Required("v", [problem.Batch, problem.KeyHeads, problem.Keys, problem.ValueDim]));
        inputs.AddOther(tensors.Required("lambda_logit", outputShape[..3]));
        inputs.AddOther(tensors.Optional("gate", outputShape[..3]));
        inputs.AddGradient(tensors.Optional("dout", outputShape));
        return new GroupedDifferentialCase(file, problem, inputs, options);
    }
}
