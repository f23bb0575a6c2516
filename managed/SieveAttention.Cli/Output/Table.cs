namespace SieveAttention.Cli.Output;

/// <summary>Columns of text, each as wide as its widest cell; the last one is not padded.</summary>
internal sealed class Table(params IReadOnlyList<string> header)
{
    private readonly List<IReadOnlyList<string>> _rows = [header];
    private readonly HashSet<int> _right = [];

    /// <summary>Sets columns (numbers) to the right.</summary>
    public Table AlignRight(params IEnumerable<int> columns)
    {
        _right.UnionWith(columns);
        return this;
    }

    /// <summary>Adds a row with as many cells as the header.</summary>
    public void Add(params IReadOnlyList<string> cells) => _rows.Add(cells);

    /// <summary>Writes all rows, indented by two spaces.</summary>
    public void Write(TextWriter writer)
    {
        int[] widths = [.. header.Select((_, column) => _rows.Max(row => row[column].Length))];
        foreach (IReadOnlyList<string> row in _rows)
        {
            IEnumerable<string> cells = row.Select(
                (cell, column) => _right.Contains(column) ? cell.PadLeft(widths[column]) : cell.PadRight(widths[column]));
            writer.WriteLine($"  {string.Join("  ", cells)}".TrimEnd());
        }
    }
}
