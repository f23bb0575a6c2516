using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>The left factor of a product: any strides, so a transposed factor is the same memory with its strides exchanged.</summary>
internal readonly unsafe record struct LeftFactor(nint Address, nint RowStride, nint DepthStride)
{
    internal LeftFactor(float* data, nint rowStride)
        : this((nint)data, rowStride, 1)
    {
    }

    internal float* Data => (float*)Address;

    internal LeftFactor Transposed => new(Address, DepthStride, RowStride);
}

/// <summary>
/// The right factor of a product: panels of <see cref="MicroKernel{TLanes, TVector}.MaxColumns"/> columns. Rows of a padded row-major
/// matrix (<see cref="PaddedRows"/>) and packed columns (<see cref="ColumnPanels"/>) are both described by two strides.
/// </summary>
internal readonly unsafe record struct RightFactor(nint Address, nint DepthStride, nint PanelStride)
{
    internal float* Data => (float*)Address;
}

/// <summary>C = A B or C += A B on tiles of any size, cut into register blocks.</summary>
internal static unsafe class TileProduct<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>
    /// Computes <paramref name="rows"/> x <paramref name="columns"/> elements of C. C and B are read and written up to the next multiple
    /// of the vector width: what lies there must be memory of the caller, holds unspecified values afterwards, and never reaches other
    /// columns.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(LeftFactor a, RightFactor b, int rows, int depth, int columns, float* c, nint cRow, bool accumulate)
    {
        Debug.Assert(rows > 0 && depth >= 0 && columns > 0, "A tile has rows and columns.");
        int panel = MicroKernel<TLanes, TVector>.MaxColumns;
        float* bPanel = b.Data;
        for (int column = 0; column < columns; column += panel, bPanel += b.PanelStride)
        {
            if (columns - column > TLanes.Count)
            {
                Panel<Two>(a, bPanel, b.DepthStride, rows, depth, c + column, cRow, accumulate);
            }
            else
            {
                Panel<One>(a, bPanel, b.DepthStride, rows, depth, c + column, cRow, accumulate);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Panel<TVectors>(
        LeftFactor a, float* b, nint bDepth, int rows, int depth, float* c, nint cRow, bool accumulate)
        where TVectors : struct, ICount
    {
        int row = 0;
        for (; row + 6 <= rows; row += 6)
        {
            Block<Six, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
        }

        switch (rows - row)
        {
            case 5:
                Block<Five, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
                break;
            case 4:
                Block<Four, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
                break;
            case 3:
                Block<Three, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
                break;
            case 2:
                Block<Two, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
                break;
            case 1:
                Block<One, TVectors>(a, row, b, bDepth, depth, c, cRow, accumulate);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Block<TRows, TVectors>(
        LeftFactor a, int row, float* b, nint bDepth, int depth, float* c, nint cRow, bool accumulate)
        where TRows : struct, ICount
        where TVectors : struct, ICount =>
        MicroKernel<TLanes, TVector>.Run<TRows, TVectors>(
            a.Data + (row * a.RowStride), a.RowStride, a.DepthStride, b, bDepth, depth, c + (row * cRow), cRow, accumulate);
}
