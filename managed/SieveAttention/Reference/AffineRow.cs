namespace SieveAttention.Reference;

/// <summary>
/// Affine-scaled softmax (arXiv 2602.23057): p = softmax(s), w_j = a p_j + b with a and b of each row;
/// ds_j = a p_j (dw_j - sum p dw), da = sum p dw, db = sum dw.
/// </summary>
internal sealed class AffineRow : RowFunction
{
    private readonly HostArray<double> _a;
    private readonly HostArray<double>? _b;
    private readonly double[] _p;

    /// <param name="problem">The problem.</param>
    /// <param name="a">[batch, query heads, queries, 1].</param>
    /// <param name="b">The same; null = 0.</param>
    internal AffineRow(in AttentionProblem problem, HostArray<double> a, HostArray<double>? b)
    {
        _a = a;
        _b = b;
        _p = new double[problem.Keys];
        FactorGradient = new HostArray<double>(problem.RowShape);
        ShiftGradient = b is null ? null : new HostArray<double>(problem.RowShape);
    }

    /// <summary>da; 0 for a row without a visible key.</summary>
    internal HostArray<double> FactorGradient { get; }

    /// <summary>db; null without b.</summary>
    internal HostArray<double>? ShiftGradient { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        SoftmaxRow.Weigh(s, w);
        double a = _a.Row(place.Batch, place.Head, place.Row)[0];
        double b = _b?.Row(place.Batch, place.Head, place.Row)[0] ?? 0;
        for (int j = 0; j < s.Length; j++)
        {
            w[j] = (a * w[j]) + b;
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        SoftmaxRow.Weigh(s, _p);
        double a = _a.Row(place.Batch, place.Head, place.Row)[0];
        double delta = UnitVectors.Dot(_p.AsSpan(0, s.Length), dw);
        double sum = 0;
        for (int j = 0; j < s.Length; j++)
        {
            ds[j] = a * _p[j] * (dw[j] - delta);
            sum += dw[j];
        }

        FactorGradient.Row(place.Batch, place.Head, place.Row)[0] = delta;
        if (ShiftGradient is not null)
        {
            ShiftGradient.Row(place.Batch, place.Head, place.Row)[0] = sum;
        }
    }
}
