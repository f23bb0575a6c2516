namespace SieveAttention.Tests.Support;

/// <summary>A sparse sparse attention problem with random inputs: one registry of cases serves every device.</summary>
internal sealed record SparseSparseCase(string Name)
{
    public int Batch { get; init; } = 1;

    public int QueryHeads { get; init; } = 2;

    public int KeyHeads { get; init; } = 1;

    public int Queries { get; init; } = 21;

    public int Keys { get; init; } = 21;

    public int HeadDim { get; init; } = 8;

    public int ValueDim { get; init; } = 8;

    public bool Gain { get; init; }

    public bool Gate { get; init; }

    public int Seed { get; init; } = 1;

    public SparseSparseOptions Options { get; init; } = new() { BlockSize = 4, BlockCount = 2 };

    public TensorShape QueryShape => new(Batch, QueryHeads, Queries, HeadDim);

    public TensorShape OutputShape => new(Batch, QueryHeads, Queries, ValueDim);

    public AttentionProblem Problem => new(
        Batch,
        QueryHeads,
        KeyHeads,
        Queries,
        Keys,
        HeadDim,
        ValueDim,
        Causal: true,
        Options.Mask.QueryOffset ?? (Keys - Queries),
        Window: 0);

    /// <summary>Random inputs in host memory, rounded to a type.</summary>
    public SparseSparseInputs Inputs(TensorType type = TensorType.Float64)
    {
        Random random = new(Seed);
        AttentionTensor Next(TensorShape shape) => Values.Tensor(Values.Normal(random, shape.Count), shape, type);
        return new SparseSparseInputs
        {
            Query = Next(QueryShape),
            Key = Next(new TensorShape(Batch, KeyHeads, Keys, HeadDim)),
            Value = Next(new TensorShape(Batch, KeyHeads, Keys, ValueDim)),
            NormGain = Gain ? Next(new TensorShape(1, 1, 1, ValueDim)) : null,
            Gate = Gate ? Next(new TensorShape(Batch, QueryHeads, Queries, 1)) : null,
        };
    }

    public AttentionTensor OutputGradient(int number = 1)
    {
        Random random = new(Seed + number);
        return Values.Tensor(Values.Normal(random, OutputShape.Count), OutputShape);
    }

    public SparseSparseCase With(Func<SparseSparseOptions, SparseSparseOptions> change) => this with { Options = change(Options) };

    public SparseSparseAttention On(AttentionDevice device) => new(device, Options);

    /// <summary>A small random case: sizes, blocks, offset, selection and epilogue all vary; both streams.</summary>
    public static SparseSparseCase Random(int seed)
    {
        Random random = new(seed);
        int keyHeads = random.Next(1, 3);
        int keys = random.Next(1, 90);
        int queries = random.Next(1, keys + 1);
        bool released = random.Next(2) == 0;
        int blockSize = released ? 1 << random.Next(1, 4) : random.Next(1, 20);
        bool rms = random.Next(3) == 0;
        return new SparseSparseCase($"random {seed}")
        {
            Seed = seed,
            Batch = random.Next(1, 3),
            KeyHeads = keyHeads,
            QueryHeads = keyHeads * random.Next(1, 6),
            Queries = queries,
            Keys = keys,
            HeadDim = random.Next(1, 40),
            ValueDim = random.Next(1, 40),
            Gain = rms && random.Next(2) == 0,
            Gate = random.Next(2) == 0,
            Options = new SparseSparseOptions
            {
                BlockSize = blockSize,
                BlockCount = random.Next(1, released ? blockSize + 1 : 7),
                Selection = released ? BlockSelectionRule.Released : BlockSelectionRule.Exact,
                Stream = SparseSparseMode.Both,
                Alignment = random.Next(2) == 0 ? AlignmentPlacement.Gated : AlignmentPlacement.Ungated,
                AlignmentWeight = random.Next(2) * 10,
                Mask = new AttentionMask { QueryOffset = random.Next(2) == 0 ? null : random.Next(0, keys - queries + 1) },
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
