namespace SieveAttention;

/// <summary>Parameters of <see cref="ThresholdDifferentialAttention"/>, with the defaults of the paper. Immutable.</summary>
public sealed record ThresholdDifferentialOptions
{
    /// <summary>Steepness of the threshold, finite; a negative one gives negative thresholds.</summary>
    public double Beta { get; init; } = 1;

    /// <summary>Number of visible keys up to which the threshold stays 0, finite and greater than 0.</summary>
    public double Kappa { get; init; } = 1;

    /// <summary>Weight of the second view, finite, not clamped; 0 is the single-view operator.</summary>
    public double Lambda { get; init; }

    /// <summary>Exponent of the exceedance, finite and at least 1.</summary>
    public double Power { get; init; } = 2;

    /// <summary>Which keys a row sees.</summary>
    public AttentionMask Mask { get; init; } = AttentionMask.CausalMask;

    /// <summary>What happens to an output row.</summary>
    public OutputEpilogue Epilogue { get; init; } = new();

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Finite(Beta, nameof(Beta));
        Guard.Positive(Kappa, nameof(Kappa));
        Guard.Finite(Lambda, nameof(Lambda));
        Guard.AtLeast(1, Power, nameof(Power));
        ArgumentNullException.ThrowIfNull(Mask);
        ArgumentNullException.ThrowIfNull(Epilogue);
        Mask.Validate();
        Epilogue.Validate();
    }

    internal ThresholdDifferentialParameters ToParameters(int queryHeads)
    {
        double[] beta = new double[queryHeads];
        double[] lambda = new double[queryHeads];
        Array.Fill(beta, Beta);
        Array.Fill(lambda, Lambda);
        return new ThresholdDifferentialParameters(beta, Kappa, lambda, Power, Epilogue.ToParameters());
    }
}
