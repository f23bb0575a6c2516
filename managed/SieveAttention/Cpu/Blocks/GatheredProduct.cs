using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// C = A B or C += A B where the rows of A and C lie anywhere: products of the rows that selected a block with its keys or values. Eight
/// sums are kept in registers, 4 rows x 2 vectors or 8 rows x 1 vector: as many as two FMA units need, and addresses of rows still fit the
/// registers. Every element is one chain of fused steps in the order of depth, as in <see cref="TileProduct{TLanes, TVector}"/>.
/// </summary>
internal static unsafe class GatheredProduct<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <param name="a">Addresses of rows of A, whose depth is contiguous.</param>
    /// <param name="rows">Rows of A and C.</param>
    /// <param name="b">Right factor.</param>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="columns">Columns of C; C and B are used up to a multiple of the vector width.</param>
    /// <param name="c">Addresses of rows of C.</param>
    /// <param name="accumulate">Whether the sums start from C instead of 0.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(nint* a, int rows, RightFactor b, int depth, int columns, nint* c, bool accumulate)
    {
        float* panel = b.Data;
        for (int column = 0; column < columns; column += 2 * TLanes.Count, panel += b.PanelStride)
        {
            int row = 0;
            if (columns - column > TLanes.Count)
            {
                for (; row + 4 <= rows; row += 4)
                {
                    Block<Four, Two>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }

                for (; row + 2 <= rows; row += 2)
                {
                    Block<Two, Two>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }

                if (row < rows)
                {
                    Block<One, Two>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }
            }
            else
            {
                for (; row + 8 <= rows; row += 8)
                {
                    Block<Eight, One>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }

                for (; row + 4 <= rows; row += 4)
                {
                    Block<Four, One>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }

                for (; row < rows; row++)
                {
                    Block<One, One>(a + row, panel, b.DepthStride, depth, c + row, column, accumulate);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Block<TRows, TVectors>(nint* a, float* b, nint bDepth, nint depth, nint* c, int column, bool accumulate)
        where TRows : struct, ICount
        where TVectors : struct, ICount
    {
        int width = TLanes.Count;
        TVector c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default, c30 = default, c31 = default;
        TVector c40 = default, c50 = default, c60 = default, c70 = default;
        if (accumulate)
        {
            c00 = TLanes.Load((float*)c[0] + column);
            c01 = TVectors.Value > 1 ? TLanes.Load((float*)c[0] + column + width) : default;
            c10 = TRows.Value > 1 ? TLanes.Load((float*)c[1] + column) : default;
            c11 = TRows.Value > 1 && TVectors.Value > 1 ? TLanes.Load((float*)c[1] + column + width) : default;
            c20 = TRows.Value > 2 ? TLanes.Load((float*)c[2] + column) : default;
            c21 = TRows.Value > 2 && TVectors.Value > 1 ? TLanes.Load((float*)c[2] + column + width) : default;
            c30 = TRows.Value > 3 ? TLanes.Load((float*)c[3] + column) : default;
            c31 = TRows.Value > 3 && TVectors.Value > 1 ? TLanes.Load((float*)c[3] + column + width) : default;
            c40 = TRows.Value > 4 ? TLanes.Load((float*)c[4] + column) : default;
            c50 = TRows.Value > 4 ? TLanes.Load((float*)c[5] + column) : default;
            c60 = TRows.Value > 4 ? TLanes.Load((float*)c[6] + column) : default;
            c70 = TRows.Value > 4 ? TLanes.Load((float*)c[7] + column) : default;
        }

        float* a0 = (float*)a[0];
        float* a1 = TRows.Value > 1 ? (float*)a[1] : null;
        float* a2 = TRows.Value > 2 ? (float*)a[2] : null;
        float* a3 = TRows.Value > 3 ? (float*)a[3] : null;
        float* a4 = TRows.Value > 4 ? (float*)a[4] : null;
        float* a5 = TRows.Value > 4 ? (float*)a[5] : null;
        float* a6 = TRows.Value > 4 ? (float*)a[6] : null;
        float* a7 = TRows.Value > 4 ? (float*)a[7] : null;
        for (nint k = 0; k < depth; k++, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            TVector b1 = TVectors.Value > 1 ? TLanes.Load(b + width) : default;
            TVector x = TLanes.Broadcast(a0[k]);
            c00 = TLanes.MultiplyAdd(x, b0, c00);
            c01 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c01) : c01;
            if (TRows.Value > 1)
            {
                x = TLanes.Broadcast(a1[k]);
                c10 = TLanes.MultiplyAdd(x, b0, c10);
                c11 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c11) : c11;
            }

            if (TRows.Value > 2)
            {
                x = TLanes.Broadcast(a2[k]);
                c20 = TLanes.MultiplyAdd(x, b0, c20);
                c21 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c21) : c21;
                x = TLanes.Broadcast(a3[k]);
                c30 = TLanes.MultiplyAdd(x, b0, c30);
                c31 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c31) : c31;
            }

            if (TRows.Value > 4)
            {
                c40 = TLanes.MultiplyAdd(TLanes.Broadcast(a4[k]), b0, c40);
                c50 = TLanes.MultiplyAdd(TLanes.Broadcast(a5[k]), b0, c50);
                c60 = TLanes.MultiplyAdd(TLanes.Broadcast(a6[k]), b0, c60);
                c70 = TLanes.MultiplyAdd(TLanes.Broadcast(a7[k]), b0, c70);
            }
        }

        Store<TVectors>((float*)c[0] + column, c00, c01);
        if (TRows.Value > 1)
        {
            Store<TVectors>((float*)c[1] + column, c10, c11);
        }

        if (TRows.Value > 2)
        {
            Store<TVectors>((float*)c[2] + column, c20, c21);
            Store<TVectors>((float*)c[3] + column, c30, c31);
        }

        if (TRows.Value > 4)
        {
            TLanes.Store((float*)c[4] + column, c40);
            TLanes.Store((float*)c[5] + column, c50);
            TLanes.Store((float*)c[6] + column, c60);
            TLanes.Store((float*)c[7] + column, c70);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<TVectors>(float* c, TVector first, TVector second)
        where TVectors : struct, ICount
    {
        TLanes.Store(c, first);
        if (TVectors.Value > 1)
        {
            TLanes.Store(c + TLanes.Count, second);
        }
    }
}
