namespace SieveAttention;

/// <summary>Gradients of <see cref="EntmaxAttention"/>. Owns its tensors. Thread-safe to read.</summary>
public sealed class EntmaxGradients : AttentionGradients
{
    internal EntmaxGradients(GradientTensors tensors, IReadOnlyList<double> alpha)
        : base(tensors)
    {
        Alpha = alpha;
    }

    /// <summary>Gradient of <see cref="EntmaxOptions.Alpha"/>, as many values; one for all heads is the sum over heads.</summary>
    public IReadOnlyList<double> Alpha { get; }
}
