namespace SieveAttention.Reference;

/// <summary>
/// Which tiles of query rows and key rows are exact: for tile (I, J) of a batch entry and query head,
/// u = |scale| max_{i in I} |g_i| |q_i| max_{j in J} |k_j|, a bound of its scores by Cauchy-Schwarz; exact iff u &gt; bound, strictly.
/// Tiles count from row 0 of each tensor; all their rows take part, visible or not. A norm that is NaN takes no part, so that such a row
/// does not change the others of its tile.
/// </summary>
internal sealed class SupportBasisTiles
{
    private readonly AttentionProblem _problem;
    private readonly double _scale;
    private readonly double _bound;
    private readonly int _tile;
    private readonly double[][] _queryNorms;
    private readonly double[][] _keyNorms;

    internal SupportBasisTiles(
        in AttentionProblem problem, ScoreTerms<double> terms, HostArray<double> q, HostArray<double> k, double bound, int tile)
    {
        _problem = problem;
        _scale = Math.Abs(terms.Scale);
        _bound = bound;
        _tile = tile;
        _queryNorms = LargestNorms(q, tile, terms.RowFactor);
        _keyNorms = LargestNorms(k, tile, null);
        ExactFraction = Share();
    }

    /// <summary>Exact tiles / tiles, over batch and query heads, of those with at least one visible pair; 0 if there is none.</summary>
    internal double ExactFraction { get; }

    internal bool IsExact(int batch, int head, int row, int key) => IsExactTile(batch, head, row / _tile, key / _tile);

    private static double[][] LargestNorms(HostArray<double> x, int tile, HostArray<double>? factors)
    {
        TensorShape shape = x.Shape;
        double[][] norms = new double[shape.Batch * shape.Heads][];
        for (int b = 0; b < shape.Batch; b++)
        {
            for (int h = 0; h < shape.Heads; h++)
            {
                double[] largest = norms[(b * shape.Heads) + h] = new double[((shape.Rows - 1) / tile) + 1];
                for (int i = 0; i < shape.Rows; i++)
                {
                    ReadOnlySpan<double> row = x.Row(b, h, i);
                    double norm = Math.Sqrt(UnitVectors.Dot(row, row)) * Math.Abs(factors?.Row(b, h, i)[0] ?? 1);
                    if (norm > largest[i / tile])
                    {
                        largest[i / tile] = norm;
                    }
                }
            }
        }

        return norms;
    }

    private bool IsExactTile(int batch, int head, int queryTile, int keyTile)
    {
        double q = _queryNorms[(batch * _problem.QueryHeads) + head][queryTile];
        double k = _keyNorms[(batch * _problem.KeyHeads) + _problem.KeyHead(head)][keyTile];
        return _scale * q * k > _bound;
    }

    private double Share()
    {
        long exact = 0;
        long all = 0;
        bool[] visible = new bool[((_problem.Keys - 1) / _tile) + 1];
        for (int first = 0; first < _problem.Queries; first += _tile)
        {
            Array.Clear(visible);
            int end = (int)Math.Min(_problem.Queries, (long)first + _tile);
            for (int i = first; i < end; i++)
            {
                KeyRange keys = _problem.Visible(i);
                for (int keyTile = keys.First / _tile; keys.Count > 0 && keyTile <= (keys.End - 1) / _tile; keyTile++)
                {
                    visible[keyTile] = true;
                }
            }

            for (int b = 0; b < _problem.Batch; b++)
            {
                for (int h = 0; h < _problem.QueryHeads; h++)
                {
                    for (int keyTile = 0; keyTile < visible.Length; keyTile++)
                    {
                        all += visible[keyTile] ? 1 : 0;
                        exact += visible[keyTile] && IsExactTile(b, h, first / _tile, keyTile) ? 1 : 0;
                    }
                }
            }

            if (end == _problem.Queries)
            {
                break;
            }
        }

        return all == 0 ? 0 : (double)exact / all;
    }
}
