namespace SieveAttention.Tests.Support;

/// <summary>A grouped differential attention problem with random inputs: one registry of cases serves every device.</summary>
internal sealed record GroupedDifferentialCase(string Name)
{
    public int Batch { get; init; } = 1;

    public int Groups { get; init; } = 2;

    public int KeyHeads { get; init; } = 2;

    public int Queries { get; init; } = 7;

    public int Keys { get; init; } = 7;

    public int HeadDim { get; init; } = 4;

    public int ValueDim { get; init; } = 4;

    public bool Gain { get; init; }

    public bool Gate { get; init; }

    public int Seed { get; init; } = 1;

    public GroupedDifferentialOptions Options { get; init; } = new();

    public int QueryHeads => Groups * (Options.Signals + 1);

    public TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    public TensorShape KeyShape => new(Batch, KeyHeads, Keys, HeadDim);

    public TensorShape ValueShape => new(Batch, KeyHeads, Keys, ValueDim);

    public TensorShape OutputShape => new(Batch, Groups * Options.Signals, Queries, ValueDim);

    public TensorShape OutputRowShape => OutputShape with { Channels = 1 };

    /// <summary>Random inputs in host memory, rounded to a type.</summary>
    public GroupedDifferentialInputs Inputs(TensorType type = TensorType.Float64)
    {
        Random random = new(Seed);
        AttentionTensor Next(TensorShape shape, double scale = 1) =>
            Values.Tensor(Array.ConvertAll(Values.Normal(random, shape.Count), value => scale * value), shape, type);
        return new GroupedDifferentialInputs
        {
            Query = Next(QueryShape, 1.5),
            Key = Next(KeyShape),
            Value = Next(ValueShape),
            LambdaLogit = Next(OutputRowShape),
            NormGain = Gain ? Next(new TensorShape(1, 1, 1, ValueDim)) : null,
            Gate = Gate ? Next(OutputRowShape) : null,
        };
    }

    public AttentionTensor OutputGradient()
    {
        Random random = new(Seed + 1);
        return Values.Tensor(Values.Normal(random, OutputShape.Count), OutputShape);
    }

    public GroupedDifferentialAttention Operator(AttentionDevice? device = null) => new(device ?? AttentionDevice.Reference, Options);

    /// <summary>The output on the Reference device.</summary>
    public double[] Forward(GroupedDifferentialInputs inputs)
    {
        using GroupedDifferentialResult result = Operator().Forward(inputs);
        return Values.Doubles(result.Output);
    }

    /// <summary>A small random case: sizes, masks, groups, slopes and epilogue all vary; a group may span key heads.</summary>
    public static GroupedDifferentialCase Random(int seed)
    {
        Random random = new(seed);
        int signals = random.Next(1, 4);
        int groups = random.Next(1, 4);
        int queryHeads = groups * (signals + 1);
        int[] divisors = [.. Enumerable.Range(1, queryHeads).Where(heads => queryHeads % heads == 0)];
        int keys = random.Next(1, 12);
        bool rms = random.Next(2) == 0;
        return new GroupedDifferentialCase($"random {seed}")
        {
            Seed = seed,
            Batch = random.Next(1, 3),
            Groups = groups,
            KeyHeads = divisors[random.Next(divisors.Length)],
            Queries = random.Next(1, 12),
            Keys = keys,
            HeadDim = random.Next(1, 9),
            ValueDim = random.Next(1, 9),
            Gain = rms && random.Next(2) == 0,
            Gate = random.Next(2) == 0,
            Options = new GroupedDifferentialOptions
            {
                Signals = signals,
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

    public override string ToString() => FormattableString.Invariant($"{Name}: {QueryShape} x {KeyShape}, {Options.Signals} signals");
}
