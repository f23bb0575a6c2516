namespace SieveAttention.Reference;

/// <summary>
/// L2-normalized rows, u = x / max(|x|, 1e-12), and the gradient through the normalization. Used by cosine scores.
/// </summary>
internal sealed class UnitVectors
{
    private const double Floor = 1e-12;

    private readonly HostArray<double> _unit;
    private readonly HostArray<double> _norm;

    internal UnitVectors(HostArray<double> x)
    {
        TensorShape shape = x.Shape;
        _unit = new HostArray<double>(shape);
        _norm = new HostArray<double>(shape with { Channels = 1 });
        for (int b = 0; b < shape.Batch; b++)
        {
            for (int h = 0; h < shape.Heads; h++)
            {
                for (int i = 0; i < shape.Rows; i++)
                {
                    ReadOnlySpan<double> row = x.Row(b, h, i);
                    double norm = Math.Sqrt(Dot(row, row));
                    _norm.Row(b, h, i)[0] = norm;
                    Span<double> unit = _unit.Row(b, h, i);
                    for (int c = 0; c < row.Length; c++)
                    {
                        unit[c] = row[c] / Math.Max(norm, Floor);
                    }
                }
            }
        }
    }

    internal static double Dot(ReadOnlySpan<double> x, ReadOnlySpan<double> y)
    {
        double sum = 0;
        for (int c = 0; c < x.Length; c++)
        {
            sum += x[c] * y[c];
        }

        return sum;
    }

    internal ReadOnlySpan<double> Row(int batch, int head, int row) => _unit.Row(batch, head, row);

    /// <summary>
    /// Turns a gradient of the unit vectors into one of the rows, in place: dx = (du - u (u.du)) / |x|; where |x| is below the
    /// floor the normalization is a division by the floor.
    /// </summary>
    internal void Backward(HostArray<double> gradient)
    {
        TensorShape shape = gradient.Shape;
        for (int b = 0; b < shape.Batch; b++)
        {
            for (int h = 0; h < shape.Heads; h++)
            {
                for (int i = 0; i < shape.Rows; i++)
                {
                    ReadOnlySpan<double> u = _unit.Row(b, h, i);
                    Span<double> du = gradient.Row(b, h, i);
                    double norm = _norm.Row(b, h, i)[0];
                    double projection = norm < Floor ? 0 : Dot(u, du);
                    for (int c = 0; c < du.Length; c++)
                    {
                        du[c] = (du[c] - (u[c] * projection)) / Math.Max(norm, Floor);
                    }
                }
            }
        }
    }
}
