namespace SieveAttention;

/// <summary>
/// Gradients of an operator with one view, collected over packed sequences: rows of queries and keys in their places, sums for what all
/// sequences share.
/// </summary>
internal sealed class PackedGradientSum
{
    private readonly AttentionTensor _query;
    private readonly AttentionTensor _key;
    private readonly AttentionTensor _value;
    private readonly AttentionTensor? _normGain;
    private readonly AttentionTensor? _gate;
    private readonly AttentionTensor? _rowFactors;
    private readonly RowFactor _factor;
    private readonly double[] _factorValues;
    private readonly double[] _factorExponents;

    internal PackedGradientSum(AttentionDevice device, AttentionInputs inputs, RowFactor factor)
    {
        _query = PackedViews.GradientOf(device, inputs.Query);
        _key = PackedViews.GradientOf(device, inputs.Key);
        _value = PackedViews.GradientOf(device, inputs.Value);
        _normGain = PackedViews.GradientOf(device, inputs.NormGain);
        _gate = PackedViews.GradientOf(device, inputs.Gate);
        _rowFactors = PackedViews.GradientOf(device, inputs.RowFactors);
        _factor = factor;
        _factorValues = new double[factor.Values.Count];
        _factorExponents = new double[factor.Exponents.Count];
    }

    internal GradientTensors Tensors => new(
        _query,
        _key,
        _value,
        _factor.Kind == RowFactorKind.None ? null : new RowFactorGradients(_factorValues, _factorExponents, _rowFactors),
        _normGain,
        _gate);

    /// <summary>Takes in the gradients of one sequence.</summary>
    internal void Add(PackedViews part, AttentionGradients gradients)
    {
        part.PlaceQueries(gradients.Query, _query);
        part.PlaceKeys(gradients.Key, _key);
        part.PlaceKeys(gradients.Value, _value);
        part.PlaceQueries(gradients.Gate, _gate);
        PackedViews.Add(gradients.NormGain, _normGain);
        if (gradients.RowFactor is { } factor)
        {
            part.PlaceQueries(factor.Rows, _rowFactors);
            Add(factor.Values, _factorValues);
            Add(factor.Exponents, _factorExponents);
        }
    }

    /// <summary>total += part.</summary>
    internal static void Add(IReadOnlyList<double> part, double[] total)
    {
        for (int n = 0; n < part.Count; n++)
        {
            total[n] += part[n];
        }
    }
}
