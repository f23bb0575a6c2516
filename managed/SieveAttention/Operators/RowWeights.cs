namespace SieveAttention;

/// <summary>
/// How <see cref="RowFunctionAttention"/> makes weights of a row's scores s_j, j over its n visible keys. One of the records below.
/// </summary>
public abstract record RowWeights
{
    private protected RowWeights()
    {
    }

    /// <summary>The parameter of which there is one for all heads or one for each query head, and its name; null without one.</summary>
    internal virtual (string Name, IReadOnlyList<double> Values)? HeadParameter => null;

    /// <summary>Checks the values.</summary>
    internal virtual void Validate()
    {
        if (HeadParameter is var (name, values))
        {
            OptionGuard.HeadValues(values, name);
        }
    }
}

/// <summary>
/// Softpick (arXiv 2504.20966, eq. 4): w_j = relu(exp(s_j) - 1) / (sum_k |exp(s_k) - 1| + epsilon). Negative scores get no weight, and
/// the weights of a row need not sum to 1.
/// </summary>
public sealed record SoftpickWeights : RowWeights
{
    /// <summary>Added to the denominator, finite and greater than 0.</summary>
    public double Epsilon { get; init; } = 1e-6;

    internal override void Validate() => Guard.Positive(Epsilon, nameof(Epsilon));
}

/// <summary>Sigmoid attention (arXiv 2409.04431): w_j = sigmoid(s_j + b). Weights are not normalized over the keys.</summary>
public sealed record SigmoidWeights : RowWeights
{
    /// <summary>b, one for all heads or one for each query head; when absent b = -ln n of each row.</summary>
    public IReadOnlyList<double>? Bias { get; init; }

    internal override (string Name, IReadOnlyList<double> Values)? HeadParameter =>
        Bias is null ? null : (nameof(Bias), Bias);
}

/// <summary>
/// Elastic-Softmax of Lazy Attention (arXiv 2601.00919): w_j = relu(softmax(s + b)_j + tau / n). With tau &lt; 0 weights below -tau / n
/// are exactly 0. b is a learned bias by distance, <see cref="RowFunctionInputs.DistanceBias"/>, 0 when absent.
/// </summary>
public sealed record ElasticSoftmaxWeights : RowWeights
{
    /// <summary>tau, one for all heads or one for each query head; the paper starts at -1.</summary>
    public IReadOnlyList<double> Tau { get; init; } = [-1];

    internal override (string Name, IReadOnlyList<double> Values)? HeadParameter => (nameof(Tau), Tau);
}

/// <summary>
/// Affine-scaled attention (arXiv 2602.23057): w_j = a softmax(s)_j + b with a and b of each row, tensors of
/// <see cref="RowFunctionInputs"/>. The paper's b = (a_average - a) / N is the caller's.
/// </summary>
public sealed record AffineWeights : RowWeights;

/// <summary>
/// alpha-ReLU (arXiv 2111.06832): w_j = relu((alpha - 1) s_j - tau)^(1 / (alpha - 1)) with a constant tau in place of the one that
/// entmax solves for. Weights are not normalized.
/// </summary>
public sealed record AlphaReluWeights : RowWeights
{
    /// <summary>Alpha, greater than 1 and at most 2.</summary>
    public double Alpha { get; init; } = 1.5;

    /// <summary>tau, one for all heads or one for each query head.</summary>
    public IReadOnlyList<double> Tau { get; init; } = [0];

    internal override (string Name, IReadOnlyList<double> Values)? HeadParameter => (nameof(Tau), Tau);

    internal override void Validate()
    {
        base.Validate();
        if (!(Alpha > 1 && Alpha <= 2))
        {
            throw Guard.OutOfRange(nameof(Alpha), Alpha, "a number greater than 1 and at most 2");
        }
    }
}
