namespace SieveAttention;

/// <summary>
/// From tensors and options to an <see cref="AttentionProblem"/>: the checks of shapes, masks and epilogue that every operator
/// shares. An operator names its tensors and adds only the checks of what it alone has.
/// </summary>
internal static class ProblemBuilder
{
    private const string QueryAxes = "[batch, query heads, queries, head_dim]";
    private const string KeyAxes = "[batch, key heads, keys, head_dim]";
    private const string ValueAxes = "[batch, key heads, keys, value_dim]";
    private const string OutputAxes = "[batch, query heads, queries, value_dim]";
    private const string RowAxes = "[batch, query heads, queries, 1]";

    /// <summary>Checks everything that an operator with one view reads, against the options that it shares with others.</summary>
    internal static AttentionProblem Build(
        AttentionDevice device, AttentionMask mask, ScoreOptions scores, OutputEpilogue epilogue, AttentionInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        AttentionProblem problem = Build(
            device,
            mask,
            inputs.Query,
            nameof(inputs.Query),
            inputs.Key,
            nameof(inputs.Key),
            inputs.Value,
            nameof(inputs.Value));
        CheckScores(device, problem, scores, inputs.RowFactors);
        CheckEpilogue(device, problem, epilogue, inputs.NormGain, inputs.Gate);
        if (inputs.KeyLengths is { } lengths)
        {
            DeviceGuard.OnlyOn(device, "A number of valid keys for each batch entry (KeyLengths)", AttentionDeviceKind.Cuda);
            CheckKeyLengths(device, problem, lengths, nameof(inputs.KeyLengths));
        }

        return problem;
    }

    /// <summary>Checks the numbers of valid keys of the batch entries.</summary>
    internal static void CheckKeyLengths(AttentionDevice device, in AttentionProblem problem, AttentionTensor lengths, string name) =>
        TensorGuard.Integers(lengths, name, device, new TensorShape(1, 1, 1, problem.Batch), "[1, 1, 1, batch]");

    /// <summary>Checks one view of queries and keys, and the values; every later view is checked against the problem.</summary>
    internal static AttentionProblem Build(
        AttentionDevice device,
        AttentionMask mask,
        AttentionTensor query,
        string queryName,
        AttentionTensor key,
        string keyName,
        AttentionTensor value,
        string valueName)
    {
        TensorGuard.Input(query, queryName, device);
        TensorGuard.Input(key, keyName, device);
        TensorGuard.Input(value, valueName, device);
        TensorShape q = query.Shape;
        TensorShape k = key.Shape;
        TensorGuard.Shape(key, keyName, new TensorShape(q.Batch, k.Heads, k.Rows, q.Channels), KeyAxes);
        if (q.Heads % k.Heads != 0)
        {
            throw Guard.Tensor(
                queryName,
                $"{queryName} has {q.Heads} heads and {keyName} has {k.Heads}; the heads of {queryName} have to be a multiple.");
        }

        TensorGuard.Shape(value, valueName, new TensorShape(q.Batch, k.Heads, k.Rows, value.Shape.Channels), ValueAxes);
        return new AttentionProblem(
            q.Batch,
            q.Heads,
            k.Heads,
            q.Rows,
            k.Rows,
            q.Channels,
            value.Shape.Channels,
            mask.Causal,
            mask.QueryOffset ?? ((long)k.Rows - q.Rows),
            mask.Window ?? 0);
    }

    /// <summary>Checks a further view of queries and keys; both or none are given.</summary>
    internal static void CheckView(
        AttentionDevice device, in AttentionProblem problem, AttentionTensor? query, string queryName, AttentionTensor? key, string keyName)
    {
        if (query is null != key is null)
        {
            (string present, string absent) = query is null ? (keyName, queryName) : (queryName, keyName);
            throw Guard.Tensor(absent, $"{absent} is absent and {present} is given; allowed: both or none.");
        }

        if (query is null || key is null)
        {
            return;
        }

        TensorGuard.Input(query, queryName, device);
        TensorGuard.Input(key, keyName, device);
        TensorGuard.Shape(query, queryName, problem.QueryShape, QueryAxes);
        TensorGuard.Shape(key, keyName, problem.KeyShape, KeyAxes);
    }

    /// <summary>Checks the tensors of the epilogue.</summary>
    internal static void CheckEpilogue(
        AttentionDevice device, in AttentionProblem problem, OutputEpilogue epilogue, AttentionTensor? normGain, AttentionTensor? gate)
    {
        if (normGain is not null)
        {
            if (epilogue.Norm != OutputNorm.Rms)
            {
                throw Guard.Tensor("NormGain", "NormGain is given, but Norm is None; allowed: a gain with Norm = Rms only.");
            }

            TensorGuard.Input(normGain, "NormGain", device);
            TensorGuard.Shape(normGain, "NormGain", new TensorShape(1, 1, 1, problem.ValueDim), "[1, 1, 1, value_dim]");
        }

        if (gate is not null)
        {
            TensorGuard.Input(gate, "Gate", device);
            TensorGuard.Shape(gate, "Gate", problem.RowShape, RowAxes);
        }

        if (device.Kind != AttentionDeviceKind.Cuda)
        {
            return;
        }

        if (gate is not null)
        {
            TensorGuard.Type(gate, "Gate", TensorType.Float32);
        }

        if (normGain is not null)
        {
            TensorGuard.Type(normGain, "NormGain", TensorType.Float32);
            TensorGuard.Dense(normGain, "NormGain");
        }
    }

    /// <summary>Checks the options and the tensor of the scores against the heads and rows of the problem.</summary>
    internal static void CheckScores(AttentionDevice device, in AttentionProblem problem, ScoreOptions scores, AttentionTensor? rowFactors)
    {
        if (scores.AlibiSlopes is { } slopes && slopes.Count != problem.QueryHeads)
        {
            throw Guard.Values(
                nameof(scores.AlibiSlopes),
                $"AlibiSlopes has {slopes.Count} values; allowed: one for each of the {problem.QueryHeads} query heads.");
        }

        CheckHeadValues(problem, scores.RowFactor.Values.Count, $"RowFactor of kind {scores.RowFactor.Kind}", nameof(scores.RowFactor));
        bool wanted = scores.RowFactor.Kind == RowFactorKind.PerRow;
        if (wanted != rowFactors is not null)
        {
            throw Guard.Tensor(
                "RowFactors",
                wanted
                    ? "RowFactors is absent and RowFactor is PerRow; allowed: a tensor [batch, query heads, queries, 1]."
                    : $"RowFactors is given and RowFactor is {scores.RowFactor.Kind}; allowed: a tensor with RowFactor = PerRow only.");
        }

        if (rowFactors is not null)
        {
            CheckRowInput(device, problem, rowFactors, "RowFactors");
            if (device.Kind == AttentionDeviceKind.Cuda)
            {
                TensorGuard.Type(rowFactors, "RowFactors", TensorType.Float32);
            }
        }
    }

    /// <summary>A parameter has one value for all heads, or one for each query head; 0 values = there is no such parameter.</summary>
    internal static void CheckHeadValues(in AttentionProblem problem, int count, string what, string name)
    {
        if (count > 1 && count != problem.QueryHeads)
        {
            throw Guard.Values(
                name, $"{what} has {count} values; allowed: one, or one for each of the {problem.QueryHeads} query heads.");
        }
    }

    /// <summary>Checks an input with one value a query row.</summary>
    internal static void CheckRowInput(AttentionDevice device, in AttentionProblem problem, AttentionTensor rows, string name)
    {
        TensorGuard.Input(rows, name, device);
        TensorGuard.Shape(rows, name, problem.RowShape, RowAxes);
    }

    /// <summary>Checks a floating-point output with one value a query row.</summary>
    internal static void CheckRows(AttentionDevice device, in AttentionProblem problem, AttentionTensor rows, string name)
    {
        ReadOnlySpan<TensorType> types =
            device.Kind == AttentionDeviceKind.Cuda ? [TensorType.Float32] : [TensorType.Float64, TensorType.Float32];
        TensorGuard.Output(rows, name, device, problem.RowShape, RowAxes, types);
    }

    /// <summary>On a CUDA device the 16-bit tensors of one call have one type.</summary>
    internal static void CheckSameType(
        AttentionTensor first, string firstName, params ReadOnlySpan<(AttentionTensor? Tensor, string Name)> others)
    {
        TensorGuard.Type(first, firstName, TensorType.Float16, TensorType.BFloat16);
        foreach ((AttentionTensor? tensor, string name) in others)
        {
            if (tensor is not null && tensor.Type != first.Type)
            {
                string expected = TensorTypes.Name(first.Type);
                throw Guard.Tensor(
                    name, $"{name} has elements of type {TensorTypes.Name(tensor.Type)}; it has to be {expected} like {firstName}.");
            }
        }
    }

    /// <summary>Checks the output: any floating-point type on a host device, the inputs' type or Float32 on a CUDA device.</summary>
    internal static void CheckOutput(
        AttentionDevice device, in AttentionProblem problem, AttentionTensor output, string name, TensorType inputs)
    {
        ReadOnlySpan<TensorType> types = device.Kind == AttentionDeviceKind.Cuda
            ? [inputs, TensorType.Float32]
            : [TensorType.Float64, TensorType.Float32, TensorType.Float16, TensorType.BFloat16];
        TensorGuard.Output(output, name, device, problem.OutputShape, OutputAxes, types);
    }

    /// <summary>Checks an integer output with one value a query row.</summary>
    internal static void CheckCounts(AttentionDevice device, in AttentionProblem problem, AttentionTensor counts, string name) =>
        TensorGuard.Output(counts, name, device, problem.RowShape, RowAxes, TensorType.Int32);

    /// <summary>Checks a bitmap of 64 x 64 tiles, two bits a tile.</summary>
    internal static void CheckTiles(AttentionDevice device, in AttentionProblem problem, AttentionTensor tiles, string name) =>
        TensorGuard.Output(tiles, name, device, problem.TileShape, "[batch, query heads, query tiles, words]", TensorType.Int32);

    /// <summary>Checks an upstream gradient.</summary>
    internal static void CheckOutputGradient(AttentionDevice device, in AttentionProblem problem, AttentionTensor gradient, string name)
    {
        TensorGuard.Input(gradient, name, device);
        TensorGuard.Shape(gradient, name, problem.OutputShape, OutputAxes);
    }
}
