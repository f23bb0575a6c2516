namespace SieveAttention.Reference;

/// <summary>
/// Support-basis weights (after arXiv 2510.01643): w(s) = exp(s) where the pair's tile is exact, else the Taylor polynomial P of exp at 0;
/// each row is divided by its sum. ds_j = w'(s_j) (dw_j - sum w dw) / sum. Which tiles are exact carries no gradient.
/// </summary>
internal sealed class SupportBasisRow : RowFunction
{
    private readonly SupportBasisTiles _tiles;
    private readonly int _degree;

    internal SupportBasisRow(SupportBasisTiles tiles, int degree)
    {
        _tiles = tiles;
        _degree = degree;
    }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        double level = Level(place, s);
        double sum = 0;
        for (int n = 0; n < s.Length; n++)
        {
            w[n] = IsExact(place, n) ? Math.Exp(s[n] - level) : Polynomial(s[n]) * Math.Exp(-level);
            sum += w[n];
        }

        if (sum <= 0)
        {
            throw Guard.Tensor(
                "Query",
                FormattableString.Invariant(
                    $"The weights of batch {place.Batch}, head {place.Head}, query row {place.Row} sum to {sum * Math.Exp(level)}; ")
                + "allowed: a positive sum. Use Degree 2, which is positive everywhere, or a smaller Bound.");
        }

        for (int n = 0; n < s.Length; n++)
        {
            w[n] /= sum;
        }
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        double level = Level(place, s);
        double sum = 0;
        for (int n = 0; n < s.Length; n++)
        {
            sum += IsExact(place, n) ? Math.Exp(s[n] - level) : Polynomial(s[n]) * Math.Exp(-level);
        }

        double delta = UnitVectors.Dot(w, dw);
        for (int n = 0; n < s.Length; n++)
        {
            double slope = IsExact(place, n) ? w[n] : Slope(s[n]) * Math.Exp(-level) / sum;
            ds[n] = slope * (dw[n] - delta);
        }
    }

    /// <summary>Logarithm of the largest weight: taken out of all, so that large exact scores do not overflow.</summary>
    private double Level(in RowPlace place, ReadOnlySpan<double> s)
    {
        double level = double.NegativeInfinity;
        for (int n = 0; n < s.Length; n++)
        {
            level = Math.Max(level, IsExact(place, n) ? s[n] : Math.Log(Math.Abs(Polynomial(s[n]))));
        }

        return double.IsNegativeInfinity(level) ? 0 : level;
    }

    private bool IsExact(in RowPlace place, int n) => _tiles.IsExact(place.Batch, place.Head, place.Row, place.Visible.First + n);

    /// <summary>1 + s, or 1 + s + s^2/2.</summary>
    private double Polynomial(double s) => _degree == 1 ? 1 + s : 1 + s + (0.5 * s * s);

    private double Slope(double s) => _degree == 1 ? 1 : 1 + s;
}
