namespace SieveAttention.Decoding;

/// <summary>
/// Which pages of a common pool hold the keys of each sequence, without the memory of the pages: the keys of page n of a table are the
/// sequence's keys n * size to (n + 1) * size - 1.
/// </summary>
internal class PageTables
{
    private readonly Stack<int> _free;
    private readonly List<int>[] _tables;

    internal PageTables(int sequences, int pageSize, int pages, int pagesPerSequence)
    {
        Size = pageSize;
        Count = pages;
        PerSequence = pagesPerSequence;
        _free = new Stack<int>(Enumerable.Range(0, pages).Reverse());
        _tables = new List<int>[sequences];
        for (int sequence = 0; sequence < _tables.Length; sequence++)
        {
            _tables[sequence] = [];
        }
    }

    /// <summary>Keys of a page.</summary>
    internal int Size { get; }

    /// <summary>Largest number of pages of one sequence.</summary>
    internal int PerSequence { get; }

    internal int Count { get; }

    internal int Free => _free.Count;

    internal IReadOnlyList<int> Table(int sequence) => _tables[sequence];

    /// <summary>Pages that a sequence of this length needs.</summary>
    internal long Needed(long length) => (length + Size - 1) / Size;

    /// <summary>Extends the table of a sequence; the pages have been checked to be free.</summary>
    internal void Extend(int sequence, int length)
    {
        List<int> table = _tables[sequence];
        while (table.Count < Needed(length))
        {
            Take(_free.Peek());
            table.Add(_free.Pop());
        }
    }

    /// <summary>Gives back the pages beyond a length.</summary>
    internal void Shorten(int sequence, int length)
    {
        List<int> table = _tables[sequence];
        for (int n = table.Count - 1; n >= Needed(length); n--)
        {
            _free.Push(table[n]);
            table.RemoveAt(n);
        }
    }

    /// <summary>
    /// Checks that <paramref name="rows"/> more keys of a sequence of <paramref name="length"/> keys fit, and returns the number of pages
    /// that they need.
    /// </summary>
    /// <exception cref="InvalidOperationException">They do not fit: the sequence is full, or too few pages are free.</exception>
    internal long CheckRoom(int sequence, int length, int rows)
    {
        long sum = (long)length + rows;
        if (Needed(sum) > PerSequence || sum > int.MaxValue)
        {
            long most = Math.Min((long)PerSequence * Size, int.MaxValue);
            throw new InvalidOperationException(
                $"Sequence {sequence} has {length} keys and {rows} more do not fit; at most {most} do.");
        }

        long needed = Needed(sum) - Table(sequence).Count;
        return needed <= Free
            ? needed
            : throw new InvalidOperationException(
                $"{rows} more keys of sequence {sequence} need {needed} pages of {Size} keys; {Free} of {Count} are free.");
    }

    /// <summary>Checks that as many more keys of every sequence fit.</summary>
    /// <exception cref="InvalidOperationException">They do not fit: a sequence is full, or too few pages are free.</exception>
    internal void CheckRoomOfAll(ReadOnlySpan<int> lengths, int rows)
    {
        long needed = 0;
        for (int sequence = 0; sequence < lengths.Length; sequence++)
        {
            needed += CheckRoom(sequence, lengths[sequence], rows);
        }

        if (needed > Free)
        {
            throw new InvalidOperationException(
                $"{rows} more keys for each of {lengths.Length} sequences need {needed} pages of {Size} keys; {Free} of {Count} are free.");
        }
    }

    /// <summary>A page is about to be used by a sequence.</summary>
    private protected virtual void Take(int page)
    {
    }
}
