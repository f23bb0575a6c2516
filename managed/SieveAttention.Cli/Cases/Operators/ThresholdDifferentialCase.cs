using System.Globalization;
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

    /// <inheritdoc/>
    public override string Operator => OperatorName;

    /// <summary>The parameters.</summary>
    public ThresholdDifferentialOptions Options { get; } = options;

    /// <inheritdoc/>
    public override string Parameters =>
        $"beta {Text.Parameter(Options.Beta)}  kappa {Text.Parameter(Options.Kappa)}  lambda {Text.Parameter(Options.Lambda)}"
        + $"  power {Text.Parameter(Options.Power)}{CommonParts.Describe(Options.Epilogue)}";

    /// <inheritdoc/>
    protected override OutputEpilogue Epilogue => Options.Epilogue;

    /// <inheritdoc/>
    public override CaseResult Forward(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        using DeviceWorkspace? workspace = device is CudaDevice cuda ? new DeviceWorkspace(cuda) : null;
        ThresholdDifferentialInputs inputs = OperatorInputs(loaded);
        return Run(
            device,
            () => attention.Forward(inputs),
            into => attention.Forward(inputs, into, workspace: workspace),
            result =>
            [
                CaseResult.Store("out", result.Output, OutputShape, device),
                CaseResult.Store("survivors1", result.Survivors1, RowShape, device),
                CaseResult.Store("survivors2", result.Survivors2!, RowShape, device),
            ]);
    }

    /// <inheritdoc/>
    public override CaseResult Backward(AttentionDevice device)
    {
        ThresholdDifferentialAttention attention = new(device, Options);
        using LoadedTensors loaded = new(Inputs, device);
        using DeviceWorkspace? workspace = device is CudaDevice cuda ? new DeviceWorkspace(cuda) : null;
        ThresholdDifferentialInputs inputs = OperatorInputs(loaded);
        AttentionTensor outputGradient = loaded["dout"];
        using ThresholdDifferentialResult? forward = workspace is null ? null : attention.Forward(inputs);
        return Run(
            device,
            () => attention.Backward(inputs, outputGradient),
            gradients =>
            {
                if (workspace is null)
                {
                    attention.Backward(inputs, outputGradient).Dispose();
                }
                else
                {
                    attention.Backward(inputs, forward, outputGradient, gradients, workspace: workspace);
                }
            },
            gradients =>
            [
                .. StoreGradients(
                    device,
                    ("q1", gradients.Query1),
                    ("k1", gradients.Key1),
                    ("q2", gradients.Query2),
                    ("k2", gradients.Key2),
                    ("v", gradients.Value),
                    ("norm_gain", gradients.NormGain),
                    ("gate", gradients.Gate)),
                CaseResult.Store("dbeta", gradients.Beta, device),
                CaseResult.Store("dkappa", gradients.Kappa, device),
                CaseResult.Store("dlambda", gradients.Lambda, device),
            ]);
    }

    /// <inheritdoc/>
    public override StoredTensor? PlainOutput(string name, TensorType type)
    {
        if (name != "out")
        {
            return null;
        }
        // Thresholds cut scores: the plain evaluation has to decide with scores of float32, not with exact ones.
        CaseInputs inputs = Rounded(type).Inputs;
        ThresholdDifferentialRows<float> rows = new(
            Problem,
            Options.ToParameters(Problem.QueryHeads),
            [inputs.Read<float>("q1"), inputs.Read<float>("q2")],
            [inputs.Read<float>("k1"), inputs.Read<float>("k2")]);
        float[] output = PlainEvaluation.Run(
            type,
            Problem,
            (batch, head, row, target) => rows.Row(batch, head, row, target, []),
            inputs.Read<float>("v"),
            PlainEpilogue);
        return new StoredTensor(name, OutputShape, output);
    }

    /// <inheritdoc/>
    public override IReadOnlyList<StoredTensor> PlainGradients(TensorType type)
    {
        CaseInputs inputs = Rounded(type).Inputs;
        PlainThresholdDifferential plain = new(
            type,
            Problem,
            Options,
            [inputs.Read<float>("q1"), inputs.Read<float>("q2")],
            [inputs.Read<float>("k1"), inputs.Read<float>("k2")],
            inputs.Read<float>("v"));
        PlainThresholdDifferential.Gradients gradients = plain.Backward(inputs.Read<float>("dout"), PlainEpilogue);
        AttentionDevice host = AttentionDevice.Cpu;
        float[] gain = gradients.NormGain;
        return
        [
            .. StoreGradients(
                host,
                ("q1", HostTensors.Wrap(gradients.Queries[0])),
                ("k1", HostTensors.Wrap(gradients.Keys[0])),
                ("q2", HostTensors.Wrap(gradients.Queries[1])),
                ("k2", HostTensors.Wrap(gradients.Keys[1])),
                ("v", HostTensors.Wrap(gradients.Value)),
                ("norm_gain", Inputs.Has("norm_gain") ? AttentionTensor.From<float>(gain, new TensorShape(1, 1, 1, gain.Length)) : null),
                ("gate", Inputs.Has("gate") ? HostTensors.Wrap(gradients.Gate) : null)),
            CaseResult.Store("dbeta", gradients.Beta, host),
            CaseResult.Store("dkappa", gradients.Kappa, host),
            CaseResult.Store("dlambda", gradients.Lambda, host),
        ];
    }

    /// <inheritdoc/>
    public override int UndecidedKeys(string output, int index)
    {
        int row = index % Problem.Queries;
        int head = index / Problem.Queries % Problem.QueryHeads;
        int batch = index / Problem.Queries / Problem.QueryHeads;
        return ((ThresholdDifferentialWeights)Weights).KeysNearThreshold(
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

    /// <inheritdoc/>
    protected override AttentionWeights ReadWeights()
    {
        using LoadedTensors loaded = new(Inputs, AttentionDevice.Reference);
        return AttentionWeights.Of(Options, OperatorInputs(loaded));
    }

    private static ThresholdDifferentialInputs OperatorInputs(LoadedTensors loaded) => new()
    {
        Query1 = loaded["q1"],
        Key1 = loaded["k1"],
        Query2 = loaded["q2"],
        Key2 = loaded["k2"],
        Value = loaded["v"],
        NormGain = loaded.Optional("norm_gain"),
        Gate = loaded.Optional("gate"),
    };
}
