namespace SieveAttention;

/// <summary>How the blocks of a row are chosen by their importance in sparse sparse attention.</summary>
public enum BlockSelectionRule
{
    /// <summary>The most important blocks; the smaller index wins a tie.</summary>
    Exact,

    /// <summary>
    /// The rule of the published code: candidates are kept in chunks of block_size blocks counted from block 0, of which only the better
    /// half before the row's own chunk, and the better half of its own chunk, can be chosen. Equals <see cref="Exact"/> where
    /// block_count is at most half of block_size. Needs a block_size that is a power of two from 2 on, and block_count at most block_size.
    /// </summary>
    Released,
}
