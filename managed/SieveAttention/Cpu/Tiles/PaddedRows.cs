using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// A row-major matrix with rows padded by zeros to whole cache lines: a right factor whose depth is the rows (values, keys in the
/// gradient of queries), a left factor whose depth is the channels (query tiles), and contiguous rows for products over single keys.
/// </summary>
internal sealed unsafe class PaddedRows
{
    private readonly float* _data;

    internal PaddedRows(FloatArena arena, int rows, int channels)
    {
        Rows = rows;
        Channels = channels;
        Stride = FloatArena.Pad(channels);
        _data = arena.Take((long)rows * Stride);
    }

    internal int Rows { get; }

    internal int Channels { get; }

    /// <summary>Elements from one row to the next.</summary>
    internal int Stride { get; }

    internal float* Row(int row) => _data + ((nint)row * Stride);

    /// <summary>A row without its padding.</summary>
    internal Span<float> Span(int row) => new(Row(row), Channels);

    /// <summary>Rows from <paramref name="row"/> on, as a factor with those rows.</summary>
    internal LeftFactor Left(int row) => new(Row(row), Stride);

    /// <summary>Rows from <paramref name="row"/> on, as a factor whose depth is those rows.</summary>
    internal RightFactor Right<TLanes, TVector>(int row)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct =>
        new((nint)Row(row), Stride, MicroKernel<TLanes, TVector>.MaxColumns);

    internal void Clear(int rows) => new Span<float>(_data, rows * Stride).Clear();

    /// <summary>Copies row-major rows into the rows from <paramref name="first"/> on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Fill(ReadOnlySpan<float> source, int first, int rows)
    {
        for (int row = 0; row < rows; row++)
        {
            source.Slice(row * Channels, Channels).CopyTo(Span(first + row));
            ClearPadding(first + row);
        }
    }

    internal void ClearPadding(int row) => new Span<float>(Row(row) + Channels, Stride - Channels).Clear();
}
