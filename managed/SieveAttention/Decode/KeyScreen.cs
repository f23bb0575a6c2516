namespace SieveAttention;

/// <summary>
/// Images of cached keys by which decode with <see cref="ThresholdDifferentialAttention"/> on a CUDA device rules most keys out without reading
/// them: the threshold of a row is known before any key is read, and an image with the distance to its key bounds their score. The result is
/// the same with every screen, survivor for survivor, and bit for bit for equal <see cref="KernelOptions.DecodeSplits"/>; only time differs.
/// </summary>
/// <remarks>
/// A screen pays where few keys survive and few rows share a key head; docs/kernels.md has measurements. With more than 32 new rows x query
/// heads a key head the images are not read: that many rows ask for so many keys that reading all of them is faster.
/// </remarks>
public enum KeyScreen
{
    /// <summary>No images: all keys are read.</summary>
    None = 0,

    /// <summary>8 bits a channel: half of the bytes of the keys; hardly a key is read that does not survive.</summary>
    EightBits = 1,

    /// <summary>4 bits a channel: a quarter of the bytes; a few more keys are read.</summary>
    FourBits = 2,
}
