namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of threshold differential attention, <c>op = tda</c>.</summary>
internal sealed class ThresholdDifferentialOperator : CaseOperator
{
    /// <inheritdoc/>
    public override string Name => ThresholdDifferentialCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        ThresholdDifferentialOptions options = new()
        {
            Beta = metadata.Number("beta", 1),
            Kappa = metadata.PositiveNumber("kappa", 1),
            Lambda = metadata.Number("lambda", 0),
            Power = metadata.NumberAtLeast("power", 2, 1),
            Mask = CommonParts.ReadMask(metadata),
            Epilogue = CommonParts.ReadEpilogue(metadata),
        };
        AttentionProblem problem = CommonParts.ReadView(tensors, "q1", "k1", "v", options.Mask);
        int[] queryShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.HeadDim];
        int[] keyShape = [problem.Batch, problem.KeyHeads, problem.Keys, problem.HeadDim];
        int[] valueShape = [problem.Batch, problem.KeyHeads, problem.Keys, problem.ValueDim];
        int[] outputShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.ValueDim];

        CaseInputs inputs = new(file);
        inputs.AddOperand(tensors.Required("q1", queryShape));
        inputs.AddOperand(tensors.Required("k1", keyShape));
        inputs.AddOperand(tensors.Required("q2", queryShape));
        inputs.AddOperand(tensors.Required("k2", keyShape));
        inputs.AddOperand(tensors.Required("v", valueShape));
        inputs.AddOther(CommonParts.ReadNormGain(tensors, options.Epilogue, problem.ValueDim));
        inputs.AddOther(tensors.Optional("gate", outputShape[..3]));
        inputs.AddOther(tensors.Optional("dout", outputShape));
        return new ThresholdDifferentialCase(file, problem, inputs, options);
    }
}
