namespace SieveAttention.Tests.Support;

/// <summary>Cosine scores written independently of the implementations under test.</summary>
internal static class Scores
{
    public static double Cosine(ReadOnlySpan<double> q, ReadOnlySpan<double> k)
    {
        double product = 0;
        double qq = 0;
        double kk = 0;
        for (int c = 0; c < q.Length; c++)
        {
            product += q[c] * k[c];
            qq += q[c] * q[c];
            kk += k[c] * k[c];
        }

        return product / (Math.Max(Math.Sqrt(qq), 1e-12) * Math.Max(Math.Sqrt(kk), 1e-12));
    }

    /// <summary>Threshold of a row from the number of its visible keys.</summary>
    public static double Threshold(ThresholdDifferentialOptions options, int visible, int headDim) =>
        visible == 0 ? 0 : options.Beta * Math.Sqrt(2 * Math.Max(Math.Log(visible / options.Kappa), 0) / headDim);

    /// <summary>Number of visible keys of a row, counted key by key from the definition.</summary>
    public static bool IsVisible(AttentionMask mask, int queries, int keys, int i, int j)
    {
        long position = i + (mask.QueryOffset ?? ((long)keys - queries));
        return (!mask.Causal || j <= position) && (mask.Window is not { } window || j > position - window);
    }
}
