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
        CaseInputs inputs = CommonParts.ReadTwoViews(file, tensors, problem, options.Epilogue);
        return new ThresholdDifferentialCase(file, problem, inputs, options);
    }
}
