namespace SieveAttention;

/// <summary>The checks of options that operators share, and their spreading over heads.</summary>
internal static class OptionGuard
{
    internal static void Shared(ScoreOptions scores, AttentionMask mask, OutputEpilogue epilogue)
    {
        ArgumentNullException.ThrowIfNull(scores);
        ArgumentNullException.ThrowIfNull(mask);
        ArgumentNullException.ThrowIfNull(epilogue);
        scores.Validate();
        mask.Validate();
        epilogue.Validate();
    }

    /// <summary>A parameter with one finite value, or one for each query head; their number is checked with the tensors.</summary>
    internal static void HeadValues(IReadOnlyList<double> values, string name)
    {
        ArgumentNullException.ThrowIfNull(values, name);
        if (values.Count == 0)
        {
            throw Guard.Values(name, $"{name} is empty; allowed: one value, or one for each query head.");
        }

        foreach (double value in values)
        {
            Guard.Finite(value, name);
        }
    }

    /// <summary>One value for each query head.</summary>
    internal static double[] Spread(IReadOnlyList<double> values, int heads)
    {
        double[] spread = new double[heads];
        for (int h = 0; h < heads; h++)
        {
            spread[h] = values[values.Count == 1 ? 0 : h];
        }

        return spread;
    }

    /// <summary>From gradients of each query head to as many as the parameter had values.</summary>
    internal static double[] Gather(double[] gradients, int count) => count == 1 ? [gradients.Sum()] : gradients;
}
