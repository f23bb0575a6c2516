namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of alpha-entmax attention, <c>op = entmax</c>.</summary>
internal sealed class EntmaxOperator : CaseOperator
{
    private const string Alpha = "alpha";
    private const string AllowedAlpha = "> 1 and <= 2";

    /// <inheritdoc/>
    public override string Name => EntmaxCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        AttentionMask mask = CommonParts.ReadMask(metadata);
        ScoreOptions scores = CommonParts.ReadScores(metadata);
        double? scalar = metadata.OptionalNumberWithin(Alpha, value => value is > 1 and <= 2, AllowedAlpha);
        (AttentionProblem problem, CaseInputs inputs) = SingleViewCase.Read(file, tensors, mask);
        StoredTensor? perHead = tensors.Optional(Alpha, [problem.QueryHeads]);
        if (perHead is not null && scalar is not null)
        {
            throw metadata.Refuse(Alpha, $"{Text.Quote(metadata.Text(Alpha)!)} beside tensor '{Alpha}'", "one of both");
        }
        EntmaxOptions options = new()
        {
            Alpha = perHead is null ? [scalar ?? 1.5] : Values(tensors, perHead),
            Scores = scores,
            Mask = mask,
        };
        return new EntmaxCase(file, problem, inputs, options);
    }

    private static double[] Values(CaseTensors tensors, StoredTensor perHead)
    {
        double[] values = perHead.ToDoubles();
        int wrong = Array.FindIndex(values, value => value is not (> 1 and <= 2));
        return wrong < 0
            ? values
            : throw tensors.Refuse(Alpha, FormattableString.Invariant($"the value {values[wrong]}"), $"values {AllowedAlpha}");
    }
}
