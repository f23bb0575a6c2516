namespace SieveAttention.Decoding;

/// <summary>
/// The pages of a cache and the page table of each sequence: the keys of page n of a table are its keys n * size to (n + 1) * size - 1.
/// The memory of a page is made when the page is first used and kept when the page is given back.
/// </summary>
internal sealed class CachePages(KeyValueCacheLayout layout, int pageSize, int pages, int pagesPerSequence)
    : PageTables(layout.Sequences, pageSize, pages, pagesPerSequence)
{
    private readonly Page?[] _pages = new Page?[pages];

    /// <summary>The page that holds a key.</summary>
    internal Page Of(int sequence, int key) => _pages[Table(sequence)[key / Size]]!;

    private protected override void Take(int page) => _pages[page] ??= new Page(layout, Size);
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
