namespace SieveAttention.Cpu.Threshold;

/// <summary>tau = beta * sqrt(2 * max(ln(n / kappa), 0) / head_dim) of a query row with n visible keys.</summary>
/// <remarks>One expression for forward and backward: the same keys must survive in both.</remarks>
internal static class RowThreshold
{
    /// <summary>sqrt(2 max(ln(n / kappa), 0) / head_dim): tau for beta = 1, and the derivative of tau by beta.</summary>
    internal static double Unit(int visible, double kappa, int headDim) =>
        visible == 0 ? 0 : Math.Sqrt(2 * Math.Max(Math.Log(visible / kappa), 0) / headDim);

    internal static float Tau(double beta, double unit) => (float)(beta * unit);

    /// <summary>d tau / d kappa; 0 where ln(n / kappa) is not positive.</summary>
    internal static double SlopeByKappa(double beta, double unit, double kappa, int headDim) =>
        unit > 0 ? -beta / (headDim * kappa * unit) : 0;
}
