using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// C = A B where the column vectors of B lie anywhere: products of the heads of one query row with its selected keys. Up to 2 rows x 4
/// vectors are kept in registers. Every element is one chain of fused steps in the order of depth, as in
/// <see cref="TileProduct{TLanes, TVector}"/>.
/// </summary>
internal static unsafe class ScatteredProduct<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>Vectors computed at once: addresses and C are used up to a multiple of it.</summary>
    internal const int Vectors = 4;

    /// <param name="a">Left factor, its depth contiguous.</param>
    /// <param name="rows">Rows of A and C.</param>
    /// <param name="columns">Address of the first element of each vector of B, padded to a multiple of <see cref="Vectors"/>.</param>
    /// <param name="count">Vectors of B.</param>
    /// <param name="bDepth">Elements from one step of depth to the next.</param>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="c">Receives the products, one vector after the other.</param>
    /// <param name="cRow">Elements from one row of C to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(LeftFactor a, int rows, nint* columns, int count, nint bDepth, int depth, float* c, nint cRow)
    {
        for (int vector = 0; vector < count; vector += Vectors)
        {
            float* target = c + ((nint)vector * TLanes.Count);
            int row = 0;
            for (; row + 2 <= rows; row += 2)
            {
                Block<Two>(a.Data + (row * a.RowStride), a.RowStride, columns + vector, bDepth, depth, target + (row * cRow), cRow);
            }

            if (row < rows)
            {
                Block<One>(a.Data + (row * a.RowStride), a.RowStride, columns + vector, bDepth, depth, target + (row * cRow), cRow);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Block<TRows>(float* a, nint aRow, nint* columns, nint bDepth, int depth, float* c, nint cRow)
        where TRows : struct, ICount
    {
        TVector c00 = default, c01 = default, c02 = default, c03 = default;
        TVector c10 = default, c11 = default, c12 = default, c13 = default;
        float* b0 = (float*)columns[0];
        float* b1 = (float*)columns[1];
        float* b2 = (float*)columns[2];
        float* b3 = (float*)columns[3];
        float* a1 = a + aRow;
        nint offset = 0;
        for (nint k = 0; k < depth; k++, offset += bDepth)
        {
            TVector v0 = TLanes.Load(b0 + offset);
            TVector v1 = TLanes.Load(b1 + offset);
            TVector v2 = TLanes.Load(b2 + offset);
            TVector v3 = TLanes.Load(b3 + offset);
            TVector x = TLanes.Broadcast(a[k]);
            c00 = TLanes.MultiplyAdd(x, v0, c00);
            c01 = TLanes.MultiplyAdd(x, v1, c01);
            c02 = TLanes.MultiplyAdd(x, v2, c02);
            c03 = TLanes.MultiplyAdd(x, v3, c03);
            if (TRows.Value > 1)
            {
                x = TLanes.Broadcast(a1[k]);
                c10 = TLanes.MultiplyAdd(x, v0, c10);
                c11 = TLanes.MultiplyAdd(x, v1, c11);
                c12 = TLanes.MultiplyAdd(x, v2, c12);
                c13 = TLanes.MultiplyAdd(x, v3, c13);
            }
        }

        int width = TLanes.Count;
        TLanes.Store(c, c00);
        TLanes.Store(c + width, c01);
        TLanes.Store(c + (2 * width), c02);
        TLanes.Store(c + (3 * width), c03);
        if (TRows.Value > 1)
        {
            c += cRow;
            TLanes.Store(c, c10);
            TLanes.Store(c + width, c11);
            TLanes.Store(c + (2 * width), c12);
            TLanes.Store(c + (3 * width), c13);
        }
    }
}
