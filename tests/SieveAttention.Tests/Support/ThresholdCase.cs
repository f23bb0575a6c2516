namespace SieveAttention.Tests.Support;

/// <summary>A threshold differential problem with random inputs: one registry of cases serves every device.</summary>
internal sealed record ThresholdCase(string Name)
{
    private static readonly double[] s_powers = [1, 1.5, 2, 3];

    public int Batch { get; init; } = 1;

    public int QueryHeads { get; init; } = 2;

    public int KeyHeads { get; init; } = 2;

    public int Queries { get; init; } = 17;

    public int Keys { get; init; } = 17;

    public int HeadDim { get; init; } = 8;

    public int ValueDim { get; init; } = 8;

    public bool SecondView { get; init; } = true;

    public bool Gain { get; init; }

    public bool Gate { get; init; }

    public int Seed { get; init; } = 1;

    public ThresholdDifferentialOptions Options { get; init; } = new() { Beta = 0.4, Lambda = 0.5 };

    public TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    public TensorShape KeyShape => new(Batch, KeyHeads, Keys, HeadDim);

    public TensorShape ValueShape => new(Batch, KeyHeads, Keys, ValueDim);

    public TensorShape OutputShape => new(Batch, QueryHeads, Queries, ValueDim);

    public AttentionProblem Problem => new(
        Batch,
        QueryHeads,
        KeyHeads,
        Queries,
        Keys,
        HeadDim,
        ValueDim,
        Options.Mask.Causal,
        Options.Mask.QueryOffset ?? (Keys - Queries),
        Options.Mask.Window ?? 0);

    /// <summary>
    /// Random inputs in host memory. Queries, keys and values are rounded to a type; gain and gate, which stay float32 on a GPU,
    /// to float32 unless that type is float64.
    /// </summary>
    public ThresholdDifferentialInputs Inputs(TensorType type = TensorType.Float64)
    {
        Random random = new(Seed);
        AttentionTensor Next(TensorShape shape, TensorType t) => Values.Tensor(Values.Normal(random, shape.Count), shape, t);
        TensorType rowType = type == TensorType.Float64 ? TensorType.Float64 : TensorType.Float32;
        return new ThresholdDifferentialInputs
        {
            Query1 = Next(QueryShape, type),
            Key1 = Next(KeyShape, type),
            Value = Next(ValueShape, type),
            Query2 = SecondView ? Next(QueryShape, type) : null,
            Key2 = SecondView ? Next(KeyShape, type) : null,
            NormGain = Gain ? Next(new TensorShape(1, 1, 1, ValueDim), rowType) : null,
            Gate = Gate ? Next(new TensorShape(Batch, QueryHeads, Queries, 1), rowType) : null,
        };
    }

    public AttentionTensor OutputGradient()
    {
        Random random = new(Seed + 1);
        return Values.Tensor(Values.Normal(random, OutputShape.Count), OutputShape);
    }

    /// <summary>Runs the operator with this case's parameters.</summary>
    public ThresholdDifferentialResult Forward(AttentionDevice device, ThresholdDifferentialInputs inputs) =>
        new ThresholdDifferentialAttention(device, Options).Forward(inputs);

    /// <summary>A small random case: sizes, masks, parameters and epilogue all vary.</summary>
    public static ThresholdCase Random(int seed)
    {
        Random random = new(seed);
        int keyHeads = random.Next(1, 3);
        int queries = random.Next(1, 12);
        int keys = random.Next(1, 12);
        bool rms = random.Next(2) == 0;
        return new ThresholdCase($"random {seed}")
        {
            Seed = seed,
            Batch = random.Next(1, 3),
            KeyHeads = keyHeads,
            QueryHeads = keyHeads * random.Next(1, 4),
            Queries = queries,
            Keys = keys,
            HeadDim = random.Next(1, 9),
            ValueDim = random.Next(1, 9),
            Gain = rms && random.Next(2) == 0,
            Gate = random.Next(2) == 0,
            Options = new ThresholdDifferentialOptions
            {
                Beta = (random.NextDouble() * 1.2) - 0.4,
                Kappa = 0.5 + random.NextDouble(),
                Lambda = (random.NextDouble() * 2) - 0.5,
                Power = s_powers[random.Next(s_powers.Length)],
                Mask = new AttentionMask
                {
                    Causal = random.Next(3) > 0,
                    QueryOffset = random.Next(2) == 0 ? null : random.Next(-3, keys + 2),
                    Window = random.Next(2) == 0 ? null : random.Next(1, 6),
                },
                Epilogue = new OutputEpilogue
                {
                    Norm = rms ? OutputNorm.Rms : OutputNorm.None,
                    NormEpsilon = rms ? 1e-3 : null,
                    OutputScale = 0.5 + random.NextDouble(),
                },
            },
        };
    }

    public override string ToString() => Name;
}
