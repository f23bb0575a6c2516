namespace SieveAttention;

/// <summary>Gradients of <see cref="RowFunctionAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class RowFunctionGradients : AttentionGradients
{
    internal RowFunctionGradients(GradientTensors tensors, RowParameterGradients parameters)
        : base(tensors)
    {
        HeadParameter = parameters.HeadParameter;
        AffineFactor = parameters.AffineFactor;
        AffineShift = parameters.AffineShift;
        DistanceBias = parameters.DistanceBias;
    }

    /// <summary>
    /// Gradient of the bias or tau, as many values as it has (one for all heads is the sum over heads; for the default bias of sigmoid
    /// attention it is that of a constant added to it); null for weights without such a parameter.
    /// </summary>
    public IReadOnlyList<double>? HeadParameter { get; }

    /// <summary>Gradient of <see cref="RowFunctionInputs.AffineFactor"/>, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? AffineFactor { get; }

    /// <summary>Gradient of <see cref="RowFunctionInputs.AffineShift"/>, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? AffineShift { get; }

    /// <summary>Gradient of <see cref="RowFunctionInputs.DistanceBias"/>, [1, Hq, 1, R].</summary>
    public AttentionTensor? DistanceBias { get; }
}

/// <summary>The gradients that only row functions have.</summary>
internal sealed record RowParameterGradients(double[]? HeadParameter)
{
    internal AttentionTensor? AffineFactor { get; init; }

    internal AttentionTensor? AffineShift { get; init; }

    internal AttentionTensor? DistanceBias { get; init; }
}
