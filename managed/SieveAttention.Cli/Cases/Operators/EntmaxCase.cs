namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of alpha-entmax attention.</summary>
internal sealed class EntmaxCase(string file, AttentionProblem problem, CaseInputs inputs, EntmaxOptions options)
    : SingleViewCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "entmax";

    /// <summary>Bound of the relative error of float32 scores and of the threshold found from them.</summary>
    private const double ScoreRounding = 1.0 / (1 << 19);

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public EntmaxOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters =>
        $"alpha {string.Join(", ", Options.Alpha.Select(Text.Parameter))}{CommonParts.Describe(Options.Scores)}";

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        EntmaxAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        AttentionInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("tau", result.Tau, RowShape, device),
                CaseResult.Store("support", result.Support, RowShape, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device) => Backward(
        device,
        new EntmaxAttention(device, Options).Backward,
        gradients => [CaseResult.Store("dalpha", gradients.Alpha, device)]);

    /// <inheritdoc/>
    public override int UndecidedKeys(string output, int index)
    {
        int row = index % Problem.Queries;
        int head = index / Problem.Queries % Problem.QueryHeads;
        int batch = index / Problem.Queries / Problem.QueryHeads;
        return ((EntmaxWeights)Weights).KeysNearThreshold(batch, head, row, ScoreRounding);
    }

    /// <inheritdoc/>
    /// <remarks>The threshold of a row without a visible key is open.</remarks>
    public override double[] Specified(StoredTensor tensor)
    {
        if (tensor.Name != "tau")
        {
            return tensor.ToDoubles();
        }
        double[] values = [.. tensor.ToDoubles()];
        for (int index = 0; index < values.Length; index++)
        {
            values[index] = Problem.Visible(index % Problem.Queries).Count == 0 ? 0 : values[index];
        }
        return values;
    }

    /// <inheritdoc/>
    public override string Sparsity(CaseResult forward) => CaseResult.DescribeCounts(forward.Find("support")!);

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new EntmaxCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }
}
