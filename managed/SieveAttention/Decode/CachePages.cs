namespace SieveAttention.Decoding;

/// <summary>
/// The pages of a cache and the page table of each sequence: the keys of page n of a table are its keys n * size to (n + 1) * size - 1.
/// The memory of a page is made when the page is first used and kept when the page is given back.
/// </summary>
internal sealed class CachePages
{
    private readonly KeyValueCacheLayout _layout;
    private readonly Page?[] _pages;
    private readonly Stack<int> _free;
    private readonly List<int>[] _tables;

    internal CachePages(KeyValueCacheLayout layout, int pageSize, int pages, int pagesPerSequence)
    {
        _layout = layout;
        Size = pageSize;
        PerSequence = pagesPerSequence;
        _pages = new Page?[pages];
        _free = new Stack<int>(Enumerable.Range(0, pages).Reverse());
        _tables = new List<int>[layout.Sequences];
        for (int sequence = 0; sequence < _tables.Length; sequence++)
        {
            _tables[sequence] = [];
        }
    }

    /// <summary>Keys of a page.</summary>
    internal int Size { get; }

    /// <summary>Largest number of pages of one sequence.</summary>
    internal int PerSequence { get; }

    internal int Count => _pages.Length;

    internal int Free => _free.Count;

    internal IReadOnlyList<int> Table(int sequence) => _tables[sequence];

    /// <summary>Pages that a sequence of this length needs.</summary>
    internal long Needed(long length) => (length + Size - 1) / Size;

    /// <summary>The page that holds a key.</summary>
    internal Page Of(int sequence, int key) => _pages[_tables[sequence][key / Size]]!;

    /// <summary>Extends the table of a sequence; the pages have been checked to be free.</summary>
    internal void Extend(int sequence, int length)
    {
        List<int> table = _tables[sequence];
        while (table.Count < Needed(length))
        {
            int page = _free.Peek();
            _pages[page] ??= new Page(_layout, Size);
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
}

/// <summary>
/// Memory of one page: for each view [1, key heads, page size, head_dim], and the values [1, key heads, page size, value_dim].
/// </summary>
internal sealed class Page
{
    private readonly AttentionTensor[] _keys;

    internal Page(KeyValueCacheLayout layout, int size)
    {
        _keys = new AttentionTensor[layout.Views];
        for (int view = 0; view < layout.Views; view++)
        {
            _keys[view] = AttentionTensor.Allocate(layout.Type, new TensorShape(1, layout.KeyHeads, size, layout.HeadDim));
        }

        Values = AttentionTensor.Allocate(layout.Type, new TensorShape(1, layout.KeyHeads, size, layout.ValueDim));
    }

    internal AttentionTensor Values { get; }

    internal AttentionTensor Keys(int view) => _keys[view];
}
