using System.Globalization;
using SieveAttention.Cli.Pictures;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases.Operators;

/// <summary>A case of threshold differential attention.</summary>
internal sealed class ThresholdDifferentialCase(
    string file, AttentionProblem problem, CaseInputs inputs, ThresholdDifferentialOptions options)
    : AttentionCase(file, problem, inputs)
{
    /// <summary>The value of the key <c>op</c>.</summary>
    public const string OperatorName = "tda";

    /// <summary>
    /// Bound of the error of a float32 score of 16-bit operands, in units of sqrt(head_dim): cosines are at most 1, and each of
    /// the head_dim products adds a rounding of 2^-24 whose signs are random.
    /// </summary>
    private const double ScoreRounding = 1.0 / (1 << 20);

    private ThresholdDifferentialWeights<double>? _weights;

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public ThresholdDifferentialOptions Options { get; } = options;

    /// <inheritdoc/>
    public override bool HasOutputGradient => Inputs.Has("dout");

    /// <inheritdoc/>
    public override string Parameters
    {
        get
        {
            OutputEpilogue epilogue = Options.Epilogue;
            string norm = epilogue.Norm == OutputNorm.Rms ? $"  norm rms (eps {Text.Parameter(epilogue.NormEpsilon!.Value)})" : "";
            string scale = epilogue.OutputScale == 1 ? "" : $"  output_scale {Text.Parameter(epilogue.OutputScale)}";
            return $"beta {Text.Parameter(Options.Beta)}  kappa {Text.Parameter(Options.Kappa)}  lambda {Text.Parameter(Options.Lambda)}"
                + $"  power {Text.Parameter(Options.Power)}{norm}{scale}";
        }
    }

    private int[] RowShape => [Problem.Batch, Problem.QueryHeads, Problem.Queries];

    private int[] OutputShape => [.. RowShape, Problem.ValueDim];

    private ThresholdDifferentialWeights<double> DoubleWeights => _weights ??= new ThresholdDifferentialWeights<double>(this);

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, Options);
        using LoadedInputs loaded = new(Inputs, device);
        using DeviceWorkspace? workspace = device is CudaDevice cuda ? new DeviceWorkspace(cuda) : null;
        (ThresholdDifferentialResult result, TimeSpan time) = CaseTiming.Measure(
            device, () => attention.Forward(loaded.Inputs), into => attention.Forward(loaded.Inputs, into, workspace: workspace));
        using (result)
        {
            return new CaseResult(
                [
                    CaseResult.Store("out", result.Output, OutputShape, device),
                    CaseResult.Store("survivors1", result.Survivors1, RowShape, device),
                    CaseResult.Store("survivors2", result.Survivors2!, RowShape, device),
                ],
                time);
        }
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, Options);
        using LoadedInputs loaded = new(Inputs, device);
        using AttentionTensor outputGradient = Inputs.Load("dout", device);
        (ThresholdDifferentialGradients gradients, TimeSpan time) = CaseTiming.Measure(
            device,
            () => attention.Backward(loaded.Inputs, outputGradient),
            _ => attention.Backward(loaded.Inputs, outputGradient).Dispose());
        using (gradients)
        {
            (string Name, AttentionTensor? Tensor)[] tensors =
            [
                ("q1", gradients.Query1),
                ("k1", gradients.Key1),
                ("q2", gradients.Query2),
                ("k2", gradients.Key2),
                ("v", gradients.Value),
                ("norm_gain", gradients.NormGain),
                ("gate", gradients.Gate),
            ];
            return new CaseResult(
                [
                    .. tensors.Where(entry => entry.Tensor is not null).Select(
                        entry => CaseResult.Store($"d{entry.Name}", entry.Tensor!, Inputs.Find(entry.Name)!.Shape, device)),
                    CaseResult.Store("dbeta", gradients.Beta, device),
                    CaseResult.Store("dkappa", gradients.Kappa, device),
                    CaseResult.Store("dlambda", gradients.Lambda, device),
                ],
                time);
        }
    }

    /// <inheritdoc/>
    public override StoredTensor PlainOutput(TensorType type)
    {
        ThresholdDifferentialCase rounded = (ThresholdDifferentialCase)Rounded(type);
        ThresholdDifferentialWeights<float> weights = new(rounded);
        float[] output = PlainEvaluation.Run(
            type,
            Problem,
            (batch, head, row, target) => weights.Row(batch, head, row, target, []),
            rounded.Inputs.Read<float>("v"),
            new PlainEpilogue(
                Options.Epilogue,
                Inputs.Has("norm_gain") ? Inputs.Read<float>("norm_gain").Data : null,
                Inputs.Has("gate") ? Inputs.Read<float>("gate").Data : null));
        return new StoredTensor("out", OutputShape, output);
    }

    /// <inheritdoc/>
    public override IWeightSource Weights(int batch, int head) => DoubleWeights.Head(batch, head);

    /// <inheritdoc/>
    public override int UndecidedKeys(string output, int index)
    {
        int row = index % Problem.Queries;
        int head = index / Problem.Queries % Problem.QueryHeads;
        int batch = index / Problem.Queries / Problem.QueryHeads;
        return DoubleWeights.KeysNearThreshold(
            output == "survivors1" ? 0 : 1, batch, head, row, ScoreRounding * Math.Sqrt(Problem.HeadDim));
    }

    /// <inheritdoc/>
    public override string Sparsity(CaseResult forward)
    {
        StoredTensor first = forward.Find("survivors1")!;
        StoredTensor second = forward.Find("survivors2")!;
        long survivors = ((int[])first.Values).Sum(value => (long)value) + ((int[])second.Values).Sum(value => (long)value);
        double share = VisiblePairs == 0 ? 0 : 100.0 * survivors / (2.0 * VisiblePairs);
        return $"{CaseResult.DescribeCounts(first)}; {CaseResult.DescribeCounts(second)}; "
            + $"{share.ToString("0.####", CultureInfo.InvariantCulture)} % of the scores of visible pairs survive";
    }

    /// <inheritdoc/>
    protected override AttentionCase With(CaseInputs inputs) => new ThresholdDifferentialCase(File, Problem, inputs, Options);

    /// <summary>The inputs of the operator on a device, disposed together.</summary>
    private sealed class LoadedInputs : IDisposable
    {
        public LoadedInputs(CaseInputs inputs, AttentionDevice device)
        {
            Inputs = new ThresholdDifferentialInputs
            {
                Query1 = inputs.Load("q1", device),
                Key1 = inputs.Load("k1", device),
                Query2 = inputs.Load("q2", device),
                Key2 = inputs.Load("k2", device),
                Value = inputs.Load("v", device),
                NormGain = inputs.LoadOptional("norm_gain", device),
                Gate = inputs.LoadOptional("gate", device),
            };
        }

        public ThresholdDifferentialInputs Inputs { get; }

        public void Dispose()
        {
            Inputs.Query1.Dispose();
            Inputs.Key1.Dispose();
            Inputs.Query2?.Dispose();
            Inputs.Key2?.Dispose();
            Inputs.Value.Dispose();
            Inputs.NormGain?.Dispose();
            Inputs.Gate?.Dispose();
        }
    }
}
