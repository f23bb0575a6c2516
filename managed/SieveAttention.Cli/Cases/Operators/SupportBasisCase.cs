using System.Globalization;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of support-basis attention.</summary>
internal sealed class SupportBasisCase(string file, AttentionProblem problem, CaseInputs inputs, SupportBasisOptions options)
    : SingleViewCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "support_basis";

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public SupportBasisOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters =>
        $"degree {Options.Degree}  bound {Text.Parameter(Options.Bound)}  tile {Options.Tile}{CommonParts.Describe(Options.Scores)}";

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        SupportBasisAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        AttentionInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("exact_fraction", result.ExactFraction, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device) =>
        Backward(device, new SupportBasisAttention(device, Options).Backward);

    /// <inheritdoc/>
    public override string Sparsity(CaseResult forward)
    {
        double exact = 100 * forward.Find("exact_fraction")!.ToDoubles()[0];
        return $"{exact.ToString("0.###", CultureInfo.InvariantCulture)} % of the tiles are exact";
    }

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new SupportBasisCase(File, Problem, inputs, Options);

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }
}
