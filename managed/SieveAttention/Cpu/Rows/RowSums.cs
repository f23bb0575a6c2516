namespace SieveAttention.Cpu.Rows;

/// <summary>Contributions of rows to a parameter's gradient, one place a row.</summary>
internal sealed class RowSums
{
    private readonly AttentionProblem _problem;
    private readonly double[] _rows;

    internal RowSums(in AttentionProblem problem)
    {
        _problem = problem;
        _rows = new double[problem.RowShape.Count];
    }

    internal double this[in RowPlace place]
    {
        set => _rows[place.Index(_problem)] = value;
    }

    /// <summary>Sums over batch and rows in their order, one for each query head.</summary>
    internal double[] PerHead()
    {
        double[] sums = new double[_problem.QueryHeads];
        for (int row = 0; row < _rows.Length; row++)
        {
            sums[row / _problem.Queries % _problem.QueryHeads] += _rows[row];
        }

        return sums;
    }
}
