using System.Globalization;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of sparse sparse attention.</summary>
internal sealed class SparseSparseCase(string file, AttentionProblem problem, CaseInputs inputs, SparseSparseOptions options)
    : AttentionCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "ssa";

    /// <summary>Upstream gradient of the sparse output where both streams are computed.</summary>
    public const string SparseGradient = "dout_sparse";

    /// <summary>Upstream gradient of the full output where both streams are computed.</summary>
    public const string FullGradient = "dout_full";

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public SparseSparseOptions Options { get; } = options;

    /// <inheritdoc/>
    /// <remarks>With both streams an absent gradient is 0, and the alignment loss has a gradient of its own.</remarks>
    public override bool HasOutputGradient => IsBoth
        ? Inputs.Has(SparseGradient) || Inputs.Has(FullGradient) || Options.AlignmentWeight != 0
        : Inputs.Has("dout");

    /// <inheritdoc/>
    public override string OutputGradientNames => IsBoth
        ? $"tensor '{SparseGradient}' or '{FullGradient}', or metadata 'alignment_weight'"
        : base.OutputGradientNames;

    /// <inheritdoc/>
    public override string Parameters
    {
        get
        {
            string alignment = Options.AlignmentWeight == 0 ? "" : $"  alignment_weight {Text.Parameter(Options.AlignmentWeight)}";
            return $"{Options.BlockCount} blocks of {Options.BlockSize}  selection {Word(Options.Selection)}  stream {Word(Options.Stream)}"
                + $"  alignment {Word(Options.Alignment)}{alignment}{CommonParts.Describe(Options.Scores)}";
        }
    }

    private bool IsBoth => Options.Stream == SparseSparseMode.Both;

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        SparseSparseAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        SparseSparseInputs inputs = OperatorInputs(loaded);
        return Run(
            device, () => attention.Forward(inputs), into => attention.Forward(inputs, into), result => Store(result, device));
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        SparseSparseAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        SparseSparseInputs inputs = OperatorInputs(loaded);
        Func<SparseSparseGradients> backward = IsBoth
            ? () => attention.Backward(inputs, loaded.Optional(SparseGradient), loaded.Optional(FullGradient))
            : () => attention.Backward(inputs, loaded["dout"]);
        return Run(
            device,
            backward,
            _ => backward().Dispose(),
            gradients => StoreGradients(
                device, ("q", gradients.Query), ("k", gradients.Key), ("v", gradients.Value), ("gate", gradients.Gate)));
    }

    /// <inheritdoc/>
    public override string Sparsity(CaseResult forward)
    {
        if (forward.Find("block_indices") is not { } indices)
        {
            return "full stream: every visible key has a weight";
        }
        int[] blocks = (int[])indices.Values;
        double mean = (double)blocks.Count(block => block >= 0) / (blocks.Length / Options.BlockCount);
        string loss = forward.Find("alignment_loss") is { } value ? $"; alignment loss {Text.Number(value.ToDoubles()[0])}" : "";
        return $"{mean.ToString("0.###", CultureInfo.InvariantCulture)} blocks a row (at most {Options.BlockCount}){loss}";
    }

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new SparseSparseCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights() => ReadWeights(Options);

    /// <inheritdoc/>
    protected override AttentionWeights? WeightsOf(string output) => output switch
    {
        "out" or "out_sparse" => Weights,
        "out_full" => ReadWeights(Options with { Stream = SparseSparseMode.Full }),
        _ => null,
    };

    private static SparseSparseInputs OperatorInputs(LoadedTensors loaded) => new()
    {
        Query = loaded["q"],
        Key = loaded["k"],
        Value = loaded["v"],
        Gate = loaded.Optional("gate"),
    };

    private static string Word<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();

    private AttentionWeights ReadWeights(SparseSparseOptions options)
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(options, OperatorInputs(loaded));
    }

    private IEnumerable<StoredTensor> Store(SparseSparseResult result, AttentionDevice device)
    {
        int[] indexShape = [Problem.Batch, Problem.KeyHeads, Problem.Queries, Options.BlockCount];
        (string Name, AttentionTensor? Tensor, int[] Shape)[] tensors =
        [
            (IsBoth ? "out_sparse" : "out", result.SparseOutput, OutputShape),
            (IsBoth ? "out_full" : "out", result.FullOutput, OutputShape),
            ("lse_sparse", result.SparseLogSumExp, RowShape),
            ("lse_full", result.FullLogSumExp, RowShape),
            ("block_indices", result.BlockIndices, indexShape),
            ("alignment_loss", result.AlignmentLoss, [1]),
        ];
        return tensors.Where(entry => entry.Tensor is not null)
            .Select(entry => CaseResult.Store(entry.Name, entry.Tensor!, entry.Shape, device));
    }
}
