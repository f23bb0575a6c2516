namespace SieveAttention;

/// <summary>Which streams of sparse sparse attention are computed.</summary>
public enum SparseSparseMode
{
    /// <summary>Attention over the selected blocks.</summary>
    Sparse,

    /// <summary>Attention over all visible keys.</summary>
    Full,

    /// <summary>Both, and how far they are apart.</summary>
    Both,
}
