namespace SieveAttention.Tests.Support;

/// <summary>An operator with one view as tests of all of them see it: variables in, output and gradients by name out.</summary>
internal abstract class OneViewSubject(string name)
{
    /// <summary>Whether scores may have linear biases.</summary>
    public virtual bool TakesAlibi => true;

    /// <summary>Adds the operator's own parameters to the variables of a case.</summary>
    public virtual void Declare(OneViewCase test, Dictionary<string, double[]> variables)
    {
    }

    public abstract AttentionTensor Forward(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables);

    public abstract Dictionary<string, double[]> Backward(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables);

    public override string ToString() => name;

    /// <summary>Values around a centre, one for all heads or one a head.</summary>
    protected static double[] HeadParameter(OneViewCase test, double centre, double step) =>
        test.ParametersPerHead ? [.. Enumerable.Range(0, test.QueryHeads).Select(h => centre + (step * h))] : [centre];
}

/// <summary>Softmax.</summary>
internal sealed class SoftmaxSubject() : OneViewSubject("softmax")
{
    public override AttentionTensor Forward(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        Operator(device, test, variables).Forward(test.Inputs(variables)).Output;

    public override Dictionary<string, double[]> Backward(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        OneViewCase.Named(Operator(device, test, variables).Backward(test.Inputs(variables), test.OutputGradient()));

    private static SoftmaxAttention Operator(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        new(device, new SoftmaxOptions { Scores = test.Scores(variables), Mask = test.Mask, Epilogue = test.Epilogue });
}

/// <summary>Alpha-entmax.</summary>
internal sealed class EntmaxSubject(double alpha) : OneViewSubject(FormattableString.Invariant($"entmax {alpha}"))
{
    public override void Declare(OneViewCase test, Dictionary<string, double[]> variables) =>
        variables["alpha"] = HeadParameter(test, alpha, -0.05);

    public override AttentionTensor Forward(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        Operator(device, test, variables).Forward(test.Inputs(variables)).Output;

    public override Dictionary<string, double[]> Backward(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables)
    {
        EntmaxGradients gradients = Operator(device, test, variables).Backward(test.Inputs(variables), test.OutputGradient());
        Dictionary<string, double[]> named = OneViewCase.Named(gradients);
        named["alpha"] = [.. gradients.Alpha];
        return named;
    }

    private static EntmaxAttention Operator(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) => new(
        device,
        new EntmaxOptions { Alpha = variables["alpha"], Scores = test.Scores(variables), Mask = test.Mask, Epilogue = test.Epilogue });
}

/// <summary>Support basis.</summary>
internal sealed class SupportBasisSubject(int degree, double bound, int tile)
    : OneViewSubject(FormattableString.Invariant($"support basis of degree {degree}, bound {bound}, tile {tile}"))
{
    public override bool TakesAlibi => false;

    public override AttentionTensor Forward(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        Operator(device, test, variables).Forward(test.Inputs(variables)).Output;

    public override Dictionary<string, double[]> Backward(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        OneViewCase.Named(Operator(device, test, variables).Backward(test.Inputs(variables), test.OutputGradient()));

    private SupportBasisAttention Operator(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) => new(
        device,
        new SupportBasisOptions
        {
            Degree = degree, Bound = bound, Tile = tile, Scores = test.Scores(variables), Mask = test.Mask, Epilogue = test.Epilogue,
        });
}

/// <summary>A row function of the related papers; weights are made of its head parameter.</summary>
internal sealed class RowFunctionSubject(
    string name, Func<double[], RowWeights> weights, double? centre = null, bool affine = false, bool shift = true, int distances = 0)
    : OneViewSubject(name)
{
    public override void Declare(OneViewCase test, Dictionary<string, double[]> variables)
    {
        if (centre is { } value)
        {
            variables["head_parameter"] = HeadParameter(test, value, 0.15);
        }

        if (distances > 0)
        {
            variables["distance_bias"] = Values.Normal(new Random(test.Seed + 4), test.QueryHeads * distances);
        }

        if (affine)
        {
            variables["affine_factor"] = Values.Normal(new Random(test.Seed + 2), test.RowShape.Count);
            if (shift)
            {
                variables["affine_shift"] = Values.Normal(new Random(test.Seed + 3), test.RowShape.Count);
            }
        }
    }

    public override AttentionTensor Forward(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) =>
        Operator(device, test, variables).Forward(Inputs(test, variables)).Output;

    public override Dictionary<string, double[]> Backward(
        AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables)
    {
        RowFunctionGradients gradients = Operator(device, test, variables).Backward(Inputs(test, variables), test.OutputGradient());
        Dictionary<string, double[]> named = OneViewCase.Named(gradients);
        if (centre is not null)
        {
            named["head_parameter"] = [.. gradients.HeadParameter!];
        }

        OneViewCase.Add(named, "affine_factor", gradients.AffineFactor);
        OneViewCase.Add(named, "affine_shift", gradients.AffineShift);
        OneViewCase.Add(named, "distance_bias", gradients.DistanceBias);
        return named;
    }

    private RowFunctionInputs Inputs(OneViewCase test, IReadOnlyDictionary<string, double[]> variables) => new()
    {
        Attention = test.Inputs(variables),
        AffineFactor = variables.TryGetValue("affine_factor", out double[]? a) ? AttentionTensor.From<double>(a, test.RowShape) : null,
        AffineShift = variables.TryGetValue("affine_shift", out double[]? b) ? AttentionTensor.From<double>(b, test.RowShape) : null,
        DistanceBias = variables.TryGetValue("distance_bias", out double[]? bias)
            ? AttentionTensor.From<double>(bias, new TensorShape(1, test.QueryHeads, 1, distances))
            : null,
    };

    private RowFunctionAttention Operator(AttentionDevice device, OneViewCase test, IReadOnlyDictionary<string, double[]> variables) => new(
        device,
        new RowFunctionOptions
        {
            Weights = weights(variables.GetValueOrDefault("head_parameter", [])),
            Scores = test.Scores(variables),
            Mask = test.Mask,
            Epilogue = test.Epilogue,
        });
}
