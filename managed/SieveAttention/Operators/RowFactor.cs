namespace SieveAttention;

/// <summary>Where the factor of a row's scores comes from.</summary>
public enum RowFactorKind
{
    /// <summary>No factor: g = 1.</summary>
    None,

    /// <summary>A constant inverse temperature, as in Focal Attention (arXiv 2511.06818).</summary>
    Constant,

    /// <summary>Scalable-Softmax (arXiv 2501.19399): g = s ln(n), n = visible keys of the row.</summary>
    Ssmax,

    /// <summary>ASEntmax (arXiv 2506.16640): g = 1 + beta ln(position + 2)^gamma.</summary>
    Asentmax,

    /// <summary>The caller's own factors, a tensor given with the inputs.</summary>
    PerRow,
}

/// <summary>
/// The factor g_i by which all scores of query row i are multiplied:
/// <code>
/// None        g_i = 1
/// Constant    g_i = g
/// Ssmax       g_i = s ln(max(n_i, 1)),   n_i = keys visible to row i                      (arXiv 2501.19399, eq. 2)
/// Asentmax    g_i = 1 + beta ln(pos_i + 2)^gamma,   pos_i = max(0, i + query offset)      (arXiv 2506.16640)
/// PerRow      g_i = row_factors[i]
/// </code>
/// Values are the finished ones (after softplus and the like), one for all heads or one for each query head. Immutable, thread-safe.
/// </summary>
public sealed class RowFactor
{
    private RowFactor(RowFactorKind kind, double[] values, double[] exponents)
    {
        Kind = kind;
        Values = values;
        Exponents = exponents;
    }

    /// <summary>g = 1.</summary>
    public static RowFactor None { get; } = new(RowFactorKind.None, [], []);

    /// <summary>The caller's own factor for each row, given with the inputs as RowFactors [B, Hq, Tq, 1].</summary>
    public static RowFactor PerRow { get; } = new(RowFactorKind.PerRow, [], []);

    /// <summary>Where the factor comes from.</summary>
    public RowFactorKind Kind { get; }

    /// <summary>g of Constant, s of Ssmax, beta of Asentmax; empty otherwise. One value, or one for each query head.</summary>
    public IReadOnlyList<double> Values { get; }

    /// <summary>gamma of Asentmax, as many as <see cref="Values"/>; empty otherwise.</summary>
    public IReadOnlyList<double> Exponents { get; }

    /// <summary>A constant factor.</summary>
    /// <param name="g">The factor, finite; one for all heads or one for each query head.</param>
    /// <returns>The factor.</returns>
    /// <exception cref="ArgumentException">No value.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A value is not finite.</exception>
    public static RowFactor Constant(params ReadOnlySpan<double> g) => new(RowFactorKind.Constant, Checked(g, nameof(g)), []);

    /// <summary>Scalable-Softmax; a row with one visible key has the factor 0, which changes nothing there.</summary>
    /// <param name="s">The factor of ln n, finite; one for all heads or one for each query head.</param>
    /// <returns>The factor.</returns>
    /// <exception cref="ArgumentException">No value.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A value is not finite.</exception>
    public static RowFactor Ssmax(params ReadOnlySpan<double> s) => new(RowFactorKind.Ssmax, Checked(s, nameof(s)), []);

    /// <summary>ASEntmax with one pair of values for all heads.</summary>
    /// <param name="beta">The factor of the logarithm's power, finite.</param>
    /// <param name="gamma">The exponent of the logarithm, finite.</param>
    /// <returns>The factor.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A value is not finite.</exception>
    public static RowFactor Asentmax(double beta, double gamma) => Asentmax([beta], [gamma]);

    /// <summary>ASEntmax with values for each query head.</summary>
    /// <param name="beta">The factor of the logarithm's power, finite.</param>
    /// <param name="gamma">The exponent of the logarithm, finite; as many as <paramref name="beta"/>.</param>
    /// <returns>The factor.</returns>
    /// <exception cref="ArgumentException">No value, or not as many of both.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A value is not finite.</exception>
    public static RowFactor Asentmax(ReadOnlySpan<double> beta, ReadOnlySpan<double> gamma)
    {
        if (beta.Length != gamma.Length)
        {
            throw new ArgumentException(
                $"gamma has {gamma.Length} values and beta has {beta.Length}; allowed: as many of both.", nameof(gamma));
        }

        return new RowFactor(RowFactorKind.Asentmax, Checked(beta, nameof(beta)), Checked(gamma, nameof(gamma)));
    }

    /// <summary>g of one row; not for <see cref="RowFactorKind.PerRow"/>.</summary>
    internal double Of(in AttentionProblem problem, int head, int row) => Kind switch
    {
        RowFactorKind.Constant => Value(Values, head),
        RowFactorKind.Ssmax => Value(Values, head) * LogVisible(problem, row),
        RowFactorKind.Asentmax => 1 + (Value(Values, head) * Math.Pow(LogPosition(problem, row), Value(Exponents, head))),
        _ => 1,
    };

    /// <summary>Derivative of g in the value (g, s or beta) of its head.</summary>
    internal double ValueSlope(in AttentionProblem problem, int head, int row) => Kind switch
    {
        RowFactorKind.Ssmax => LogVisible(problem, row),
        RowFactorKind.Asentmax => Math.Pow(LogPosition(problem, row), Value(Exponents, head)),
        _ => 1,
    };

    /// <summary>Derivative of g in the exponent gamma of its head.</summary>
    internal double ExponentSlope(in AttentionProblem problem, int head, int row)
    {
        double ell = LogPosition(problem, row);
        return Value(Values, head) * Math.Pow(ell, Value(Exponents, head)) * Math.Log(ell);
    }

    private static double LogVisible(in AttentionProblem problem, int row) => Math.Log(Math.Max(problem.Visible(row).Count, 1));

    private static double LogPosition(in AttentionProblem problem, int row) => Math.Log(Math.Max(0, row + problem.QueryOffset) + 2.0);

    private static double Value(IReadOnlyList<double> values, int head) => values[values.Count == 1 ? 0 : head];

    private static double[] Checked(ReadOnlySpan<double> values, string name)
    {
        if (values.IsEmpty)
        {
            throw new ArgumentException($"{name} is empty; allowed: one value, or one for each query head.", name);
        }

        foreach (double value in values)
        {
            Guard.Finite(value, name);
        }

        return values.ToArray();
    }
}
