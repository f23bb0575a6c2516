namespace SieveAttention.Decoding;

/// <summary>
/// Something that a cache remembers about each block of <paramref name="Unit"/> consecutive keys, counted from key 0, so that decode
/// need not read them: a fold over the keys of the block, in double precision. Measures with the same values are the same.
/// </summary>
internal abstract record KeyMeasure(int Unit)
{
    /// <summary>Numbers that are kept of a block.</summary>
    internal abstract int Width(int headDim);

    /// <summary>The numbers of a block without keys.</summary>
    internal abstract void Start(Span<double> block);

    /// <summary>Adds key number <paramref name="place"/> of the block, 0 to Unit - 1; they come in their order.</summary>
    internal abstract void Add(Span<double> block, int place, ReadOnlySpan<double> key);
}

/// <summary>1 / max(|k|, 1e-12) of every key: cosine scores then cost one product.</summary>
internal sealed record InverseNorms() : KeyMeasure(1)
{
    internal const double Floor = 1e-12;

    internal override int Width(int headDim) => 1;

    internal override void Start(Span<double> block) => block[0] = 0;

    internal override void Add(Span<double> block, int place, ReadOnlySpan<double> key) => block[0] = 1 / Math.Max(Norm(key), Floor);

    internal static double Norm(ReadOnlySpan<double> key)
    {
        double squares = 0;
        foreach (double value in key)
        {
            squares += value * value;
        }

        return Math.Sqrt(squares);
    }
}

/// <summary>The mean of a complete block of keys, channel by channel; the sum of the keys so far while the block is open.</summary>
internal sealed record PooledKeys(int BlockSize) : KeyMeasure(BlockSize)
{
    internal override int Width(int headDim) => headDim;

    internal override void Start(Span<double> block) => block.Clear();

    internal override void Add(Span<double> block, int place, ReadOnlySpan<double> key)
    {
        for (int c = 0; c < block.Length; c++)
        {
            block[c] += key[c];
            if (place == Unit - 1)
            {
                block[c] /= Unit;
            }
        }
    }
}

/// <summary>Smallest and, after them, largest value of each channel of a block of keys: a box that holds the keys.</summary>
internal sealed record KeyBounds(int BlockSize) : KeyMeasure(BlockSize)
{
    internal override int Width(int headDim) => 2 * headDim;

    internal override void Start(Span<double> block)
    {
        block[..(block.Length / 2)].Fill(double.PositiveInfinity);
        block[(block.Length / 2)..].Fill(double.NegativeInfinity);
    }

    internal override void Add(Span<double> block, int place, ReadOnlySpan<double> key)
    {
        // Math.Min and Math.Max keep NaN: a box with such a key bounds nothing.
        for (int c = 0; c < key.Length; c++)
        {
            block[c] = Math.Min(block[c], key[c]);
            block[key.Length + c] = Math.Max(block[key.Length + c], key[c]);
        }
    }
}

/// <summary>The largest Euclidean norm of a block of keys; a norm that is NaN takes no part.</summary>
internal sealed record LargestNorms(int Tile) : KeyMeasure(Tile)
{
    internal override int Width(int headDim) => 1;

    internal override void Start(Span<double> block) => block[0] = 0;

    internal override void Add(Span<double> block, int place, ReadOnlySpan<double> key)
    {
        double norm = InverseNorms.Norm(key);
        if (norm > block[0])
        {
            block[0] = norm;
        }
    }
}
