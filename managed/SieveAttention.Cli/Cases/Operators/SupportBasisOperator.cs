namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of support-basis attention, <c>op = support_basis</c>.</summary>
internal sealed class SupportBasisOperator : CaseOperator
{
    /// <inheritdoc/>
    public override string Name => SupportBasisCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        SupportBasisOptions options = new()
        {
            Degree = (int)(metadata.OptionalInteger("degree", 1, 2) ?? 2),
            Bound = metadata.OptionalNumberAtLeast("bound", 0)
                ?? throw metadata.Missing("bound", $"{CaseNumber.Description}, finite >= 0 (required)"),
            Tile = (int)(metadata.OptionalInteger("tile", 1, int.MaxValue) ?? 64),
            Scores = CommonParts.ReadScale(metadata),
            Mask = CommonParts.ReadMask(metadata),
        };
        (AttentionProblem problem, CaseInputs inputs) = SingleViewCase.Read(file, tensors, options.Mask);
        return new SupportBasisCase(file, problem, inputs, options);
    }
}
