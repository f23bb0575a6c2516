namespace SieveAttention;

/// <content>The weights of each operator, from its options and tensors.</content>
public abstract partial class AttentionWeights
{
    /// <summary>The weights of <see cref="ThresholdDifferentialAttention"/>.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights, with the survivors of each view as counts.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(ThresholdDifferentialOptions options, ThresholdDifferentialInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputs);
        options.Validate();
        AttentionDevice host = AttentionDevice.Reference;
        AttentionProblem problem = ProblemBuilder.Build(
            host, options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Key1, nameof(inputs.Key1), inputs.Value, nameof(inputs.Value));
        ProblemBuilder.CheckView(host, problem, inputs.Query2, nameof(inputs.Query2), inputs.Key2, nameof(inputs.Key2));
        List<HostArray<double>> queries = [HostArray<double>.Read(inputs.Query1)];
        List<HostArray<double>> keys = [HostArray<double>.Read(inputs.Key1)];
        if (inputs.Query2 is not null && inputs.Key2 is not null)
        {
            queries.Add(HostArray<double>.Read(inputs.Query2));
            keys.Add(HostArray<double>.Read(inputs.Key2));
        }

        return new ThresholdDifferentialWeights(problem, options.ToParameters(problem.QueryHeads), [.. queries], [.. keys]);
    }

    /// <summary>The weights of <see cref="SoftmaxAttention"/>.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(SoftmaxOptions options, AttentionInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        AttentionProblem problem = ProblemBuilder.Build(AttentionDevice.Reference, options.Mask, options.Scores, options.Epilogue, inputs);
        return new RowFunctionWeights(Scores(problem, options.Scores, inputs), () => new Reference.SoftmaxRow(problem));
    }

    /// <summary>The weights of <see cref="EntmaxAttention"/>.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights, with the support of each row as count.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(EntmaxOptions options, AttentionInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        AttentionProblem problem = ProblemBuilder.Build(AttentionDevice.Reference, options.Mask, options.Scores, options.Epilogue, inputs);
        ProblemBuilder.CheckHeadValues(problem, options.Alpha.Count, nameof(options.Alpha), nameof(options.Alpha));
        return new EntmaxWeights(Scores(problem, options.Scores, inputs), OptionGuard.Spread(options.Alpha, problem.QueryHeads));
    }

    /// <summary>The weights of <see cref="RowFunctionAttention"/>; those of affine weights may be negative.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights, with the number of keys that have one as count.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, superfluous, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(RowFunctionOptions options, RowFunctionInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        AttentionProblem problem = new RowFunctionAttention(AttentionDevice.Reference, options).Check("Weights", inputs);
        RowFunctionExtras extras = inputs.Extras.Copy();
        return new RowFunctionWeights(
            Scores(problem, options.Scores, inputs.Attention),
            () => HostRowFunction.ReferenceFunction(problem, options.Weights, extras),
            countsSupport: true);
    }

    /// <summary>The weights of <see cref="SupportBasisAttention"/>.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights; a row whose weights have no positive sum is an <see cref="ArgumentException"/> when it is asked for.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(SupportBasisOptions options, AttentionInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        AttentionProblem problem = ProblemBuilder.Build(AttentionDevice.Reference, options.Mask, options.Scores, options.Epilogue, inputs);
        ScoreTerms<double> terms = options.Scores.ToTerms<double>(problem, inputs.RowFactors);
        HostArray<double> queries = HostArray<double>.Read(inputs.Query);
        HostArray<double> keys = HostArray<double>.Read(inputs.Key);
        Reference.SupportBasisTiles tiles = new(problem, terms, queries, keys, options.Bound, options.Tile);
        return new RowFunctionWeights(
            new ScoreRows(problem, terms, queries, keys), () => new Reference.SupportBasisRow(tiles, options.Degree));
    }

    /// <summary>The weights of <see cref="DifferentialAttention"/>; they may be negative.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    public static AttentionWeights Of(DifferentialOptions options, DifferentialInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputs);
        options.Validate();
        AttentionDevice host = AttentionDevice.Reference;
        AttentionProblem problem = ProblemBuilder.Build(
            host, options.Mask, inputs.Query1, nameof(inputs.Query1), inputs.Key1, nameof(inputs.Key1), inputs.Value, nameof(inputs.Value));
        ProblemBuilder.CheckView(host, problem, inputs.Query2, nameof(inputs.Query2), inputs.Key2, nameof(inputs.Key2));
        ProblemBuilder.CheckScores(host, problem, options.Scores, rowFactors: null);
        ScoreTerms<double> terms = options.Scores.ToTerms<double>(problem, rowFactors: null);
        return new DifferentialWeights(
            new ScoreRows(problem, terms, HostArray<double>.Read(inputs.Query1), HostArray<double>.Read(inputs.Key1)),
            new ScoreRows(problem, terms, HostArray<double>.Read(inputs.Query2), HostArray<double>.Read(inputs.Key2)),
            DifferentialLambda.Read(options, inputs.LambdaVectors, problem.QueryHeads).PerHead);
    }

    /// <summary>The weights of <see cref="GroupedDifferentialAttention"/>, one set for each output head; they may be negative.</summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range.</exception>
    /// <exception cref="NotSupportedException">
    /// A group of heads spans several key heads: its output is a sum over two sets of values, for which there is no single weight.
    /// </exception>
    public static AttentionWeights Of(GroupedDifferentialOptions options, GroupedDifferentialInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputs);
        options.Validate();
        AttentionDevice host = AttentionDevice.Reference;
        AttentionProblem problem = ProblemBuilder.Build(
            host, options.Mask, inputs.Query, nameof(inputs.Query), inputs.Key, nameof(inputs.Key), inputs.Value, nameof(inputs.Value));
        int group = options.Signals + 1;
        int headsOfKey = problem.QueryHeads / problem.KeyHeads;
        if (headsOfKey % group != 0)
        {
            throw new NotSupportedException(
                $"Weights of groups of {group} query heads need a multiple of {group} query heads for each key head; "
                + $"there are {headsOfKey}.");
        }

        TensorShape logitShape = problem.RowShape with { Heads = problem.QueryHeads / group * options.Signals };
        TensorGuard.Input(inputs.LambdaLogit, nameof(inputs.LambdaLogit), host);
        TensorGuard.Shape(inputs.LambdaLogit, nameof(inputs.LambdaLogit), logitShape, "[batch, output heads, queries, 1]");
        ProblemBuilder.CheckScores(host, problem, options.Scores, rowFactors: null);
        ScoreRows scores = new(
            problem,
            options.Scores.ToTerms<double>(problem, rowFactors: null),
            HostArray<double>.Read(inputs.Query),
            HostArray<double>.Read(inputs.Key));
        return new GroupedDifferentialWeights(scores, options.ToParameters(), HostArray<double>.Read(inputs.LambdaLogit));
    }

    /// <summary>
    /// The weights of <see cref="SparseSparseAttention"/>: those of the full stream where only that is computed, else those of the sparse
    /// stream with what each row loses by its selection.
    /// </summary>
    /// <param name="options">Parameters of the operator.</param>
    /// <param name="inputs">Its tensors, in host memory.</param>
    /// <returns>The weights, with the support of each row as count.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is out of range, or a query row lies outside the keys.</exception>
    public static AttentionWeights Of(SparseSparseOptions options, SparseSparseInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(inputs);
        options.Validate();
        AttentionInputs view = new() { Query = inputs.Query, Key = inputs.Key, Value = inputs.Value };
        AttentionProblem problem = ProblemBuilder.Build(
            AttentionDevice.Reference, options.Mask, options.Scores, new OutputEpilogue(), view);
        Guard.Between(0, (long)problem.Keys - problem.Queries, problem.QueryOffset, nameof(options.Mask.QueryOffset));
        ScoreRows scores = Scores(problem, options.Scores, view);
        if (options.Stream == SparseSparseMode.Full)
        {
            return new RowFunctionWeights(scores, () => new Reference.SoftmaxRow(problem));
        }

        BlockLists blocks;
        if (inputs.BlockIndices is { } indices)
        {
            TensorShape shape = BlockLists.ShapeOf(problem, options.BlockCount);
            TensorGuard.Shape(indices, nameof(inputs.BlockIndices), shape, "[batch, key heads, queries, block_count]");
            TensorGuard.Type(indices, nameof(inputs.BlockIndices), TensorType.Int32);
            blocks = BlockLists.Read(problem, options.BlockSize, indices, nameof(inputs.BlockIndices));
        }
        else
        {
            blocks = Reference.BlockSelector.Select(
                problem, options.ToParameters(problem), HostArray<double>.Read(inputs.Query), HostArray<double>.Read(inputs.Key));
        }

        return new SparseSparseWeights(scores, blocks, HostArray<double>.Read(inputs.Value));
    }

    private static ScoreRows Scores(in AttentionProblem problem, ScoreOptions scores, AttentionInputs inputs) => new(
        problem,
        scores.ToTerms<double>(problem, inputs.RowFactors),
        HostArray<double>.Read(inputs.Query),
        HostArray<double>.Read(inputs.Key));
}
