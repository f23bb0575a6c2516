namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of softmax attention, <c>op = softmax</c>.</summary>
internal sealed class SoftmaxOperator : CaseOperator
{
    /// <inheritdoc/>
    public override string Name => SoftmaxCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        SoftmaxOptions options = new() { Scores = CommonParts.ReadScores(metadata), Mask = CommonParts.ReadMask(metadata) };
        (AttentionProblem problem, CaseInputs inputs) = SingleViewCase.Read(file, tensors, options.Mask);
        return new SoftmaxCase(file, problem, inputs, options);
    }
}
