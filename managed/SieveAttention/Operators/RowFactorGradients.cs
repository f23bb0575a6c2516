using System.Numerics;

namespace SieveAttention;

/// <summary>Gradients of a <see cref="RowFactor"/>, in its own terms. Thread-safe to read.</summary>
public sealed class RowFactorGradients : IDisposable
{
    internal RowFactorGradients(double[] values, double[] exponents, AttentionTensor? rows)
    {
        Values = values;
        Exponents = exponents;
        Rows = rows;
    }

    /// <summary>Gradient of <see cref="RowFactor.Values"/> (g, s or beta), as many; a value for all heads has the sum over heads.</summary>
    public IReadOnlyList<double> Values { get; }

    /// <summary>Gradient of <see cref="RowFactor.Exponents"/> (gamma), as many.</summary>
    public IReadOnlyList<double> Exponents { get; }

    /// <summary>Gradient of the caller's own factors, [B, Hq, Tq, 1]; null for the other kinds.</summary>
    public AttentionTensor? Rows { get; }

    /// <summary>Disposes the tensor.</summary>
    public void Dispose() => Rows?.Dispose();

    /// <summary>
    /// From the gradient dg of each row's factor to those of its parameters, with ell = ln(pos + 2):
    /// Constant dg; Ssmax ds = ln(n) dg; Asentmax dbeta = ell^gamma dg, dgamma = beta ell^gamma ln(ell) dg; PerRow dg itself.
    /// </summary>
    internal static RowFactorGradients? Of<T>(RowFactor factor, in AttentionProblem problem, HostArray<T>? dg)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (dg is null)
        {
            return null;
        }

        if (factor.Kind == RowFactorKind.PerRow)
        {
            return new RowFactorGradients([], [], HostTensors.Wrap(dg));
        }

        double[] values = new double[factor.Values.Count];
        double[] exponents = new double[factor.Exponents.Count];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    double d = double.CreateTruncating(dg.Row(b, h, i)[0]);
                    values[values.Length == 1 ? 0 : h] += d * factor.ValueSlope(problem, h, i);
                    if (factor.Kind == RowFactorKind.Asentmax)
                    {
                        exponents[exponents.Length == 1 ? 0 : h] += d * factor.ExponentSlope(problem, h, i);
                    }
                }
            }
        }

        return new RowFactorGradients(values, exponents, null);
    }
}
