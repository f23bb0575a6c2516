using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Gradients of a <see cref="RowFactor"/>, in its own terms. From a CUDA device they lie in device memory, and reading
/// <see cref="Values"/> or <see cref="Exponents"/> waits for the stream on which they were computed. Thread-safe to read.
/// </summary>
public sealed class RowFactorGradients : IDisposable
{
    private readonly double[] _values = [];
    private readonly double[] _exponents = [];
    private RowFactor? _factor;
    private AttentionStream? _stream;

    internal RowFactorGradients(double[] values, double[] exponents, AttentionTensor? rows)
    {
        _values = values;
        _exponents = exponents;
        Rows = rows;
    }

    private RowFactorGradients(AttentionTensor? headValues, AttentionTensor? headExponents)
    {
        HeadValues = headValues;
        HeadExponents = headExponents;
    }

    /// <summary>Gradient of <see cref="RowFactor.Values"/> (g, s or beta), as many; a value for all heads has the sum over heads.</summary>
    public IReadOnlyList<double> Values => HeadValues is null ? _values : Read(HeadValues, _factor?.Values);

    /// <summary>Gradient of <see cref="RowFactor.Exponents"/> (gamma), as many.</summary>
    public IReadOnlyList<double> Exponents => HeadExponents is null ? _exponents : Read(HeadExponents, _factor?.Exponents);

    /// <summary>Gradient of the caller's own factors, [B, Hq, Tq, 1]; null for the other kinds.</summary>
    public AttentionTensor? Rows { get; }

    /// <summary>Gradient of the value of each head in device memory, Float32 [1, Hq, 1, 1]; null on host devices.</summary>
    public AttentionTensor? HeadValues { get; }

    /// <summary>The same for gamma; null for kinds without it.</summary>
    public AttentionTensor? HeadExponents { get; }

    /// <summary>Takes over device memory for the gradient of the caller's own factors.</summary>
    /// <param name="rows">Float32 [B, Hq, Tq, 1].</param>
    /// <returns>To be given to Backward.</returns>
    public static RowFactorGradients OfRows(AttentionTensor rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return new RowFactorGradients([], [], rows);
    }

    /// <summary>Takes over device memory for the gradients of the parameters of each head.</summary>
    /// <param name="values">Float32 [1, Hq, 1, 1].</param>
    /// <param name="exponents">The same for gamma of Asentmax, where it is wanted.</param>
    /// <returns>To be given to Backward.</returns>
    public static RowFactorGradients OfHeads(AttentionTensor values, AttentionTensor? exponents = null)
    {
        ArgumentNullException.ThrowIfNull(values);
        return new RowFactorGradients(values, exponents);
    }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Rows?.Dispose();
        HeadValues?.Dispose();
        HeadExponents?.Dispose();
    }

    /// <summary>Says what was written and on which stream.</summary>
    internal void Written(RowFactor factor, AttentionStream? stream)
    {
        _factor = factor;
        _stream = stream;
    }

    private double[] Read(AttentionTensor heads, IReadOnlyList<double>? parameters)
    {
        if (parameters is null)
        {
            throw new InvalidOperationException("The gradients have not been computed; give the object to Backward first.");
        }

        using AttentionTensor host = heads.ToHost(_stream);
        return OptionGuard.Gather(HostArray<double>.Read(host).Data, parameters.Count);
    }

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
