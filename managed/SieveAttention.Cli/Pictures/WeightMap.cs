namespace SieveAttention.Cli.Pictures;

/// <summary>
/// Attention weights reduced to the cells of a picture. A cell shows the weight of largest magnitude among its pairs, so that
/// a single survivor among millions of pairs stays visible.
/// </summary>
internal sealed class WeightMap
{
    private readonly float[] _cells;
    private readonly bool[] _visible;

    private WeightMap(int rows, int columns, int rowsPerCell, int columnsPerCell, int counts)
    {
        Rows = rows;
        Columns = columns;
        RowsPerCell = rowsPerCell;
        ColumnsPerCell = columnsPerCell;
        _cells = new float[rows * columns];
        _visible = new bool[rows * columns];
        MostCounts = [.. Enumerable.Range(0, counts).Select(_ => new int[rows])];
        MeanCounts = new double[counts];
    }

    /// <summary>Cells down.</summary>
    public int Rows { get; }

    /// <summary>Cells across.</summary>
    public int Columns { get; }

    /// <summary>Query rows in a cell.</summary>
    public int RowsPerCell { get; }

    /// <summary>Keys in a cell.</summary>
    public int ColumnsPerCell { get; }

    /// <summary>For each kind of count, the largest in each row of cells.</summary>
    public int[][] MostCounts { get; }

    /// <summary>For each kind of count, the mean over all query rows.</summary>
    public double[] MeanCounts { get; }

    /// <summary>Largest weight, at least 0.</summary>
    public double Largest { get; private set; }

    /// <summary>Smallest weight, at most 0.</summary>
    public double Smallest { get; private set; }

    /// <summary>Pairs of a query and a key that it sees.</summary>
    public long VisiblePairs { get; private set; }

    /// <summary>Visible pairs whose weight is exactly 0.</summary>
    public long ZeroPairs { get; private set; }

    /// <summary>Rows without a weight other than 0.</summary>
    public int EmptyRows { get; private set; }

    /// <summary>Part of the visible pairs whose weight is exactly 0; 1 where no pair is visible.</summary>
    public double ZeroFraction => VisiblePairs == 0 ? 1 : (double)ZeroPairs / VisiblePairs;

    /// <summary>Part of the rows without a weight other than 0.</summary>
    public double EmptyRowFraction { get; private set; }

    /// <summary>The weight that a cell shows.</summary>
    public float this[int row, int column] => _cells[(row * Columns) + column];

    /// <summary>Whether a cell has a visible pair.</summary>
    public bool IsVisible(int row, int column) => _visible[(row * Columns) + column];

    /// <summary>Computes all rows and reduces them to at most so many cells in each direction.</summary>
    public static WeightMap Compute(IWeightSource source, int mostCells, Action<double>? progress = null)
    {
        int rowsPerCell = CellSize(source.Queries, mostCells);
        int columnsPerCell = CellSize(source.Keys, mostCells);
        WeightMap map = new(
            Cells(source.Queries, rowsPerCell), Cells(source.Keys, columnsPerCell), rowsPerCell, columnsPerCell, source.CountNames.Count);
        object gate = new();
        int done = 0;
        Parallel.For(0, map.Rows, () => new Totals(source), (row, _, totals) => map.AddRow(source, row, totals, () =>
        {
            lock (gate)
            {
                progress?.Invoke((double)++done / map.Rows);
            }
        }), totals =>
        {
            lock (gate)
            {
                map.Merge(totals);
            }
        });
        for (int count = 0; count < map.MeanCounts.Length; count++)
        {
            map.MeanCounts[count] /= source.Queries;
        }
        map.EmptyRowFraction = (double)map.EmptyRows / source.Queries;
        return map;
    }

    private static int CellSize(int size, int mostCells) => Cells(size, mostCells);

    private static int Cells(int size, int cellSize) => ((size - 1) / cellSize) + 1;

    private Totals AddRow(IWeightSource source, int row, Totals totals, Action finished)
    {
        int end = Math.Min((row + 1) * RowsPerCell, source.Queries);
        for (int query = row * RowsPerCell; query < end; query++)
        {
            (int first, int last) = source.Row(query, totals.Weights, totals.Counts);
            long zeros = 0;
            for (int key = first; key < last; key++)
            {
                double weight = totals.Weights[key];
                int cell = (row * Columns) + (key / ColumnsPerCell);
                _visible[cell] = true;
                zeros += weight == 0 ? 1 : 0;
                if (Math.Abs(weight) > Math.Abs(_cells[cell]))
                {
                    _cells[cell] = (float)weight;
                }
                totals.Largest = Math.Max(totals.Largest, weight);
                totals.Smallest = Math.Min(totals.Smallest, weight);
            }
            totals.VisiblePairs += last - first;
            totals.ZeroPairs += zeros;
            totals.EmptyRows += zeros == last - first ? 1 : 0;
            for (int count = 0; count < totals.Counts.Length; count++)
            {
                totals.CountSums[count] += totals.Counts[count];
                MostCounts[count][row] = Math.Max(MostCounts[count][row], totals.Counts[count]);
            }
        }
        finished();
        return totals;
    }

    private void Merge(Totals totals)
    {
        Largest = Math.Max(Largest, totals.Largest);
        Smallest = Math.Min(Smallest, totals.Smallest);
        VisiblePairs += totals.VisiblePairs;
        ZeroPairs += totals.ZeroPairs;
        EmptyRows += totals.EmptyRows;
        for (int count = 0; count < MeanCounts.Length; count++)
        {
            MeanCounts[count] += totals.CountSums[count];
        }
    }

    /// <summary>What one thread has seen, and its buffers.</summary>
    private sealed class Totals(IWeightSource source)
    {
        public double[] Weights { get; } = new double[source.Keys];

        public int[] Counts { get; } = new int[source.CountNames.Count];

        public long[] CountSums { get; } = new long[source.CountNames.Count];

        public double Largest { get; set; }

        public double Smallest { get; set; }

        public long VisiblePairs { get; set; }

        public long ZeroPairs { get; set; }

        public int EmptyRows { get; set; }
    }
}
