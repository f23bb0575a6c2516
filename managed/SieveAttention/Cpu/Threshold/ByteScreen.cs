using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Which byte products of a query tile and a key tile exceed the bounds of their rows: one bit a pair.</summary>
/// <remarks>
/// Blocks of 4 rows x 2 vectors stay in registers from the first product to the comparison; sums are never stored. The sums start from the
/// corrections of the keys instead of 0.
/// </remarks>
internal static unsafe class ByteScreen<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    private const int BlockRows = 4;

    /// <summary>Writes the bits of <see cref="QueryTile.MaxRows"/> rows; those of rows and keys that the tiles do not have are unspecified.</summary>
    /// <param name="queries">Rows of unsigned bytes, <see cref="QueryTile.MaxRows"/> of them.</param>
    /// <param name="keys">Columns of signed bytes.</param>
    /// <param name="corrections">What the sums of each key start from.</param>
    /// <param name="rows">Rows of the query tile.</param>
    /// <param name="count">Keys of the key tile.</param>
    /// <param name="bounds">For each row the number that a total must exceed.</param>
    /// <param name="bits">Receives bit c of each row.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Run(
        PaddedRows queries, RightFactor keys, float* corrections, int rows, int count, int[] bounds, ulong[] bits)
    {
        fixed (int* bound = bounds)
        {
            fixed (ulong* target = bits)
            {
                for (int row = 0; row < rows; row += BlockRows)
                {
                    new Span<ulong>(target + row, BlockRows).Clear();
                    float* panel = keys.Data;
                    for (int column = 0; column < count; column += 2 * TLanes.Count, panel += keys.PanelStride)
                    {
                        Block(
                            queries.Row(row), queries.Stride, panel, keys.DepthStride, queries.Channels, corrections + column, bound + row,
                            target + row, column);
                    }
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Block(
        float* a, nint aRow, float* b, nint bDepth, nint depth, float* corrections, int* bound, ulong* bits, int column)
    {
        int width = TLanes.Count;
        TVector c00 = TLanes.Load(corrections), c01 = TLanes.Load(corrections + width);
        TVector c10 = c00, c11 = c01;
        TVector c20 = c00, c21 = c01;
        TVector c30 = c00, c31 = c01;
        float* a1 = a + aRow;
        float* a2 = a + (2 * aRow);
        float* a3 = a + (3 * aRow);
        for (nint k = 0; k < depth; k++, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            TVector b1 = TLanes.Load(b + width);
            TVector x = TLanes.Broadcast(a[k]);
            c00 = TLanes.AddByteProducts(x, b0, c00);
            c01 = TLanes.AddByteProducts(x, b1, c01);
            x = TLanes.Broadcast(a1[k]);
            c10 = TLanes.AddByteProducts(x, b0, c10);
            c11 = TLanes.AddByteProducts(x, b1, c11);
            x = TLanes.Broadcast(a2[k]);
            c20 = TLanes.AddByteProducts(x, b0, c20);
            c21 = TLanes.AddByteProducts(x, b1, c21);
            x = TLanes.Broadcast(a3[k]);
            c30 = TLanes.AddByteProducts(x, b0, c30);
            c31 = TLanes.AddByteProducts(x, b1, c31);
        }

        bits[0] |= (TLanes.ByteTotalsAbove(c00, bound[0]) | (TLanes.ByteTotalsAbove(c01, bound[0]) << width)) << column;
        bits[1] |= (TLanes.ByteTotalsAbove(c10, bound[1]) | (TLanes.ByteTotalsAbove(c11, bound[1]) << width)) << column;
        bits[2] |= (TLanes.ByteTotalsAbove(c20, bound[2]) | (TLanes.ByteTotalsAbove(c21, bound[2]) << width)) << column;
        bits[3] |= (TLanes.ByteTotalsAbove(c30, bound[3]) | (TLanes.ByteTotalsAbove(c31, bound[3]) << width)) << column;
    }
}
