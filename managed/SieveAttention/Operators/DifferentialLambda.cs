using System.Globalization;
using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Lambda of differential attention in float64, one value a query head: finished, or from the four vectors of a layer (arXiv 2410.05258,
/// equation 2),
/// <code>
/// lambda = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init
/// </code>
/// </summary>
internal sealed class DifferentialLambda
{
    /// <summary>How far a finished lambda beside the vectors may be from theirs: models store it rounded.</summary>
    private const double Agreement = 1e-4;

    private readonly bool _perHead;
    private readonly HostArray<double>? _vectors;

    private DifferentialLambda(double[] perHead, bool isPerHead, HostArray<double>? vectors)
    {
        PerHead = perHead;
        _perHead = isPerHead;
        _vectors = vectors;
    }

    /// <summary>One value a query head.</summary>
    internal double[] PerHead { get; }

    /// <summary>Checks and finishes lambda; the vectors have been checked for place, type and shape.</summary>
    internal static DifferentialLambda Read(DifferentialOptions options, AttentionTensor? vectors, int queryHeads)
    {
        if (vectors is null)
        {
            return Finished(options, queryHeads);
        }

        if (options.LambdaInit is not { } init)
        {
            throw Guard.Tensor(
                nameof(DifferentialInputs.LambdaVectors), "LambdaVectors is given, but LambdaInit is absent; allowed: both, or neither.");
        }

        HostArray<double> rows = HostArray<double>.Read(vectors);
        double lambda = Exponential(rows, 0) - Exponential(rows, 2) + init;
        if (!double.IsFinite(lambda))
        {
            throw Guard.Tensor(
                nameof(DifferentialInputs.LambdaVectors),
                string.Create(CultureInfo.InvariantCulture, $"LambdaVectors give a lambda of {lambda}; it has to be a finite number."));
        }

        CheckAgreement(options.Lambda, lambda);
        return new DifferentialLambda(Repeat(lambda, queryHeads), isPerHead: false, rows);
    }

    /// <summary>The gradient in the form in which lambda was given: one number, or one a head.</summary>
    internal double[] Gradient(double[] dlambda) => _perHead ? dlambda : [dlambda.Sum()];

    /// <summary>The gradient of the vectors; null where lambda was given finished.</summary>
    /// <remarks>With E_t = exp(lq_t . lk_t): dlq_1 = dlambda E_1 lk_1, dlk_1 = dlambda E_1 lq_1; the second pair with -E_2.</remarks>
    internal HostArray<T>? VectorGradient<T>(double[] dlambda)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        if (_vectors is not { } vectors)
        {
            return null;
        }

        HostArray<T> gradient = new(vectors.Shape);
        for (int row = 0; row < 4; row++)
        {
            int pair = row & 2;
            int partner = row ^ 1;
            double factor = dlambda.Sum() * Exponential(vectors, pair) * (pair == 0 ? 1 : -1);
            ReadOnlySpan<double> source = vectors.Row(0, 0, partner);
            Span<T> target = gradient.Row(0, 0, row);
            for (int c = 0; c < target.Length; c++)
            {
                target[c] = T.CreateTruncating(factor * source[c]);
            }
        }

        return gradient;
    }

    private static DifferentialLambda Finished(DifferentialOptions options, int queryHeads)
    {
        if (options.LambdaInit is { } init)
        {
            throw Guard.Tensor(
                nameof(DifferentialInputs.LambdaVectors),
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"LambdaVectors is absent and LambdaInit is {init}; allowed: both, or Lambda without both."));
        }

        IReadOnlyList<double> lambda = options.Lambda!;
        if (lambda.Count == 1)
        {
            return new DifferentialLambda(Repeat(lambda[0], queryHeads), isPerHead: false, vectors: null);
        }

        if (lambda.Count != queryHeads)
        {
            throw Guard.Values(
                nameof(DifferentialOptions.Lambda),
                $"Lambda has {lambda.Count} values; allowed: one, or one for each of the {queryHeads} query heads.");
        }

        return new DifferentialLambda([.. lambda], isPerHead: true, vectors: null);
    }

    private static void CheckAgreement(IReadOnlyList<double>? given, double lambda)
    {
        if (given is null)
        {
            return;
        }

        if (given.Count != 1 || Math.Abs(given[0] - lambda) > Agreement)
        {
            string values = string.Join(", ", given.Select(value => value.ToString(CultureInfo.InvariantCulture)));
            throw Guard.Values(
                nameof(DifferentialOptions.Lambda),
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"Lambda is {values} and LambdaVectors give {lambda}; allowed: one value within {Agreement} of it, or none."));
        }
    }

    /// <summary>exp of the dot product of two consecutive rows.</summary>
    private static double Exponential(HostArray<double> vectors, int row)
    {
        ReadOnlySpan<double> q = vectors.Row(0, 0, row);
        ReadOnlySpan<double> k = vectors.Row(0, 0, row + 1);
        double dot = 0;
        for (int c = 0; c < q.Length; c++)
        {
            dot += q[c] * k[c];
        }

        return Math.Exp(dot);
    }

    private static double[] Repeat(double value, int count)
    {
        double[] values = new double[count];
        Array.Fill(values, value);
        return values;
    }
}
