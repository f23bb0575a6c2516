namespace SieveAttention.Tests.Support;

/// <summary>
/// A problem of one view of queries and keys with random inputs, for every operator that has one. Its variables are plain arrays, so
/// that finite differences can move them; names are those of the case files.
/// </summary>
internal sealed record OneViewCase(string Name)
{
    public int Batch { get; init; } = 1;

    public int QueryHeads { get; init; } = 2;

    public int KeyHeads { get; init; } = 2;

    public int Queries { get; init; } = 5;

    public int Keys { get; init; } = 6;

    public int HeadDim { get; init; } = 4;

    public int ValueDim { get; init; } = 3;

    /// <summary>Factor of the random queries.</summary>
    public double Spread { get; init; } = 1;

    public bool Gain { get; init; }

    public bool Gate { get; init; }

    /// <summary>Whether parameters that may differ between heads do.</summary>
    public bool ParametersPerHead { get; init; }

    public RowFactorKind RowFactorKind { get; init; }

    public bool Alibi { get; init; }

    public double? Scale { get; init; }

    public int Seed { get; init; } = 1;

    public AttentionMask Mask { get; init; } = new();

    public OutputEpilogue Epilogue { get; init; } = new();

    public TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    public TensorShape KeyShape => new(Batch, KeyHeads, Keys, HeadDim);

    public TensorShape ValueShape => new(Batch, KeyHeads, Keys, ValueDim);

    public TensorShape OutputShape => new(Batch, QueryHeads, Queries, ValueDim);

    public TensorShape RowShape => new(Batch, QueryHeads, Queries, 1);

    public AttentionProblem Problem => new(
        Batch,
        QueryHeads,
        KeyHeads,
        Queries,
        Keys,
        HeadDim,
        ValueDim,
        Mask.Causal,
        Mask.QueryOffset ?? (Keys - Queries),
        Mask.Window ?? 0);

    /// <summary>Everything that has a gradient, except the parameters of an operator.</summary>
    public Dictionary<string, double[]> Variables()
    {
        Random random = new(Seed);
        Dictionary<string, double[]> variables = new()
        {
            ["q"] = [.. Values.Normal(random, QueryShape.Count).Select(value => value * Spread)],
            ["k"] = Values.Normal(random, KeyShape.Count),
            ["v"] = Values.Normal(random, ValueShape.Count),
        };
        if (Gain)
        {
            variables["norm_gain"] = Values.Normal(random, ValueDim);
        }

        if (Gate)
        {
            variables["gate"] = Values.Normal(random, RowShape.Count);
        }

        int parameters = ParametersPerHead ? QueryHeads : 1;
        switch (RowFactorKind)
        {
            case RowFactorKind.PerRow:
                variables["row_factors"] = [.. Values.Normal(random, RowShape.Count).Select(value => 1 + (0.3 * value))];
                break;
            case RowFactorKind.Asentmax:
                variables["row_values"] = [.. Values.Normal(random, parameters).Select(value => 0.5 + (0.1 * value))];
                variables["row_exponents"] = [.. Values.Normal(random, parameters).Select(value => 0.7 + (0.1 * value))];
                break;
            case RowFactorKind.Constant or RowFactorKind.Ssmax:
                variables["row_values"] = [.. Values.Normal(random, parameters).Select(value => 0.8 + (0.1 * value))];
                break;
        }

        return variables;
    }

    /// <summary>The inputs over the variables, which are not copied.</summary>
    public AttentionInputs Inputs(IReadOnlyDictionary<string, double[]> variables) => new()
    {
        Query = AttentionTensor.From<double>(variables["q"], QueryShape),
        Key = AttentionTensor.From<double>(variables["k"], KeyShape),
        Value = AttentionTensor.From<double>(variables["v"], ValueShape),
        NormGain = Optional(variables, "norm_gain", new TensorShape(1, 1, 1, ValueDim)),
        Gate = Optional(variables, "gate", RowShape),
        RowFactors = Optional(variables, "row_factors", RowShape),
    };

    public ScoreOptions Scores(IReadOnlyDictionary<string, double[]> variables) => new()
    {
        Scale = Scale,
        AlibiSlopes = Alibi ? [.. Enumerable.Range(0, QueryHeads).Select(h => h % 2 == 0 ? 0 : 0.25 / h)] : null,
        RowFactor = RowFactorKind switch
        {
            RowFactorKind.PerRow => RowFactor.PerRow,
            RowFactorKind.Constant => RowFactor.Constant(variables["row_values"]),
            RowFactorKind.Ssmax => RowFactor.Ssmax(variables["row_values"]),
            RowFactorKind.Asentmax => RowFactor.Asentmax(variables["row_values"], variables["row_exponents"]),
            _ => RowFactor.None,
        },
    };

    public AttentionTensor OutputGradient() =>
        AttentionTensor.From<double>(Values.Normal(new Random(Seed + 1), OutputShape.Count), OutputShape);

    /// <summary>Gradients by the name of their variable.</summary>
    public static Dictionary<string, double[]> Named(AttentionGradients gradients)
    {
        Dictionary<string, double[]> named = new()
        {
            ["q"] = Values.Doubles(gradients.Query),
            ["k"] = Values.Doubles(gradients.Key),
            ["v"] = Values.Doubles(gradients.Value),
        };
        Add(named, "norm_gain", gradients.NormGain);
        Add(named, "gate", gradients.Gate);
        Add(named, "row_factors", gradients.RowFactor?.Rows);
        if (gradients.RowFactor?.Values is { Count: > 0 } values)
        {
            named["row_values"] = [.. values];
        }

        if (gradients.RowFactor?.Exponents is { Count: > 0 } exponents)
        {
            named["row_exponents"] = [.. exponents];
        }

        return named;
    }

    public static void Add(Dictionary<string, double[]> named, string name, AttentionTensor? gradient)
    {
        if (gradient is not null)
        {
            named[name] = Values.Doubles(gradient);
        }
    }

    /// <summary>A small random case: sizes, masks, row factors and epilogue all vary.</summary>
    public static OneViewCase Random(int seed)
    {
        Random random = new(seed);
        int keyHeads = random.Next(1, 3);
        int keys = random.Next(1, 12);
        bool rms = random.Next(3) == 0;
        return new OneViewCase($"random {seed}")
        {
            Seed = seed,
            Batch = random.Next(1, 3),
            KeyHeads = keyHeads,
            QueryHeads = keyHeads * random.Next(1, 4),
            Queries = random.Next(1, 12),
            Keys = keys,
            HeadDim = random.Next(1, 9),
            ValueDim = random.Next(1, 9),
            Gain = rms && random.Next(2) == 0,
            Gate = random.Next(2) == 0,
            RowFactorKind = (RowFactorKind)random.Next(5),
            ParametersPerHead = random.Next(2) == 0,
            Alibi = random.Next(3) == 0,
            Mask = new AttentionMask
            {
                Causal = random.Next(3) > 0,
                QueryOffset = random.Next(2) == 0 ? null : random.Next(-3, keys + 2),
                Window = random.Next(2) == 0 ? null : random.Next(1, 6),
            },
            Epilogue = new OutputEpilogue
            {
                Norm = rms ? OutputNorm.Rms : OutputNorm.None,
                NormEpsilon = rms ? 1e-2 : null,
                OutputScale = 0.5 + random.NextDouble(),
            },
        };
    }

    public override string ToString() => Name;

    private static AttentionTensor? Optional(IReadOnlyDictionary<string, double[]> variables, string name, TensorShape shape) =>
        variables.TryGetValue(name, out double[]? values) ? AttentionTensor.From<double>(values, shape) : null;
}
