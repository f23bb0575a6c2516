namespace SieveAttention.Tests.Support;

/// <summary>A differential attention problem with random inputs: one registry of cases serves every device.</summary>
internal sealed record DifferentialCase(string Name)
{
    public int Batch { get; init; } = 1;

    public int QueryHeads { get; init; } = 2;

    public int KeyHeads { get; init; } = 2;

    public int Queries { get; init; } = 7;

    public int Keys { get; init; } = 7;

    public int HeadDim { get; init; } = 4;

    public int ValueDim { get; init; } = 8;

    public bool Vectors { get; init; }

    public bool Gain { get; init; }

    public bool Gate { get; init; }

    public int Seed { get; init; } = 1;

    public DifferentialOptions Options { get; init; } = new() { Lambda = [0.35] };

    public TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    public TensorShape KeyShape => new(Batch, KeyHeads, Keys, HeadDim);

    public TensorShape ValueShape => new(Batch, KeyHeads, Keys, ValueDim);

    public TensorShape OutputShape => new(Batch, QueryHeads, Queries, ValueDim);

    public TensorShape RowShape => new(Batch, QueryHeads, Queries, 1);

    /// <summary>Random inputs in host memory, rounded to a type.</summary>
    public DifferentialInputs Inputs(TensorType type = TensorType.Float64)
    {
        Random random = new(Seed);
        AttentionTensor Next(TensorShape shape, double scale = 1) =>
            Values.Tensor(Array.ConvertAll(Values.Normal(random, shape.Count), value => scale * value), shape, type);
        return new DifferentialInputs
        {
            Query1 = Next(QueryShape, 1.5),
            Key1 = Next(KeyShape),
            Query2 = Next(QueryShape),
            Key2 = Next(KeyShape),
            Value = Next(ValueShape),
            LambdaVectors = Vectors ? Next(new TensorShape(1, 1, 4, HeadDim), 0.4) : null,
            NormGain = Gain ? Next(new TensorShape(1, 1, 1, ValueDim)) : null,
            Gate = Gate ? Next(RowShape) : null,
        };
    }

    public AttentionTensor OutputGradient()
    {
        Random random = new(Seed + 1);
        return Values.Tensor(Values.Normal(random, OutputShape.Count), OutputShape);
    }

    public DifferentialAttention Operator(AttentionDevice? device = null) => new(device ?? AttentionDevice.Reference, Options);

    /// <summary>The output on the Reference device.</summary>
    public double[] Forward(DifferentialInputs inputs)
    {
        using DifferentialResult result = Operator().Forward(inputs);
        return Values.Doubles(result.Output);
    }

    /// <summary>A small random case: sizes, masks, lambda, slopes and epilogue all vary.</summary>
    public static DifferentialCase Random(int seed)
    {
        Random random = new(seed);
        int keyHeads = random.Next(1, 3);
        int queryHeads = keyHeads * random.Next(1, 4);
        int queries = random.Next(1, 12);
        int keys = random.Next(1, 12);
        bool rms = random.Next(2) == 0;
        int lambda = random.Next(3);
        return new DifferentialCase($"random {seed}")
        {
            Seed = seed,
            Batch = random.Next(1, 3),
            KeyHeads = keyHeads,
            QueryHeads = queryHeads,
            Queries = queries,
            Keys = keys,
            HeadDim = random.Next(1, 9),
            ValueDim = random.Next(1, 9),
            Vectors = lambda == 0,
            Gain = rms && random.Next(2) == 0,
            Gate = random.Next(2) == 0,
            Options = new DifferentialOptions
            {
                Lambda = lambda == 0 ? null : Values.Normal(random, lambda == 1 ? 1 : queryHeads),
                LambdaInit = lambda == 0 ? 0.2 + (random.NextDouble() * 0.6) : null,
                Scores = new ScoreOptions
                {
                    Scale = random.Next(2) == 0 ? null : random.NextDouble(),
                    AlibiSlopes = random.Next(3) > 0 ? null : Values.Normal(random, queryHeads),
                },
                Mask = Masks.Random(random, keys),
                Epilogue = new OutputEpilogue
                {
                    Norm = rms ? OutputNorm.Rms : OutputNorm.None,
                    NormEpsilon = rms ? 1e-3 : null,
                    OutputScale = 0.5 + random.NextDouble(),
                },
            },
        };
    }

    public override string ToString() => FormattableString.Invariant($"{Name}: {QueryShape} x {KeyShape}");
}
