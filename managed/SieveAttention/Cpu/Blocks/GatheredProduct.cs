using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// C = A B or C += A B where the rows of A and C lie anywhere: products of the rows that selected a block with its keys or values. Sums of 4
/// rows x 4 vectors, 4 rows x 2 vectors or 8 rows x 1 vector are kept in registers: at least eight, as many as two FMA units need, while
/// the addresses of the rows still fit the registers. Every element is one chain of fused steps in the order of depth, as in
/// <see cref="TileProduct{TLanes, TVector}"/>.
/// </summary>
internal static unsafe class GatheredProduct<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <param name="rows">Rows of A, whose depth is contiguous, and C.</param>
    /// <param name="b">Element [0, 0] of B; the columns of a row of B are contiguous.</param>
    /// <param name="bDepth">Elements from one row of B to the next.</param>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="columns">Columns of C; C and B are used up to a multiple of the vector width.</param>
    /// <param name="accumulate">Whether the sums start from C instead of 0.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(RowPairs rows, float* b, nint bDepth, int depth, int columns, bool accumulate)
    {
        rows.Pad();
        int column = 0;
        // AVX-512 has the registers for sixteen sums, and half the loads a sum; narrower vectors would spill.
        for (; TLanes.Count == 16 && columns - column > 3 * TLanes.Count; column += 4 * TLanes.Count)
        {
            for (int row = 0; row < rows.Count; row += 4)
            {
                FourByFour(rows.Left + row, b + column, bDepth, depth, rows.Target + row, column, accumulate);
            }
        }

        for (; columns - column > TLanes.Count; column += 2 * TLanes.Count)
        {
            for (int row = 0; row < rows.Count; row += 4)
            {
                FourByTwo(rows.Left + row, b + column, bDepth, depth, rows.Target + row, column, accumulate);
            }
        }

        if (column < columns)
        {
            for (int row = 0; row < rows.Count; row += 8)
            {
                EightByOne(rows.Left + row, b + column, bDepth, depth, rows.Target + row, column, accumulate);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourByFour(nint* a, float* b, nint bDepth, nint depth, nint* c, nint column, bool accumulate)
    {
        (nint one, nint two, nint three) = (TLanes.Count, 2 * TLanes.Count, 3 * TLanes.Count);
        TVector c00 = default, c01 = default, c02 = default, c03 = default, c10 = default, c11 = default, c12 = default, c13 = default;
        TVector c20 = default, c21 = default, c22 = default, c23 = default, c30 = default, c31 = default, c32 = default, c33 = default;
        if (accumulate)
        {
            float* from = (float*)c[0] + column;
            (c00, c01, c02, c03) = (TLanes.Load(from), TLanes.Load(from + one), TLanes.Load(from + two), TLanes.Load(from + three));
            from = (float*)c[1] + column;
            (c10, c11, c12, c13) = (TLanes.Load(from), TLanes.Load(from + one), TLanes.Load(from + two), TLanes.Load(from + three));
            from = (float*)c[2] + column;
            (c20, c21, c22, c23) = (TLanes.Load(from), TLanes.Load(from + one), TLanes.Load(from + two), TLanes.Load(from + three));
            from = (float*)c[3] + column;
            (c30, c31, c32, c33) = (TLanes.Load(from), TLanes.Load(from + one), TLanes.Load(from + two), TLanes.Load(from + three));
        }

        float* a0 = (float*)a[0];
        float* a1 = (float*)a[1];
        float* a2 = (float*)a[2];
        float* a3 = (float*)a[3];
        for (nint k = 0; k < depth; k++, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            TVector b1 = TLanes.Load(b + one);
            TVector b2 = TLanes.Load(b + two);
            TVector b3 = TLanes.Load(b + three);
            TVector x = TLanes.Broadcast(a0[k]);
            c00 = TLanes.MultiplyAdd(x, b0, c00);
            c01 = TLanes.MultiplyAdd(x, b1, c01);
            c02 = TLanes.MultiplyAdd(x, b2, c02);
            c03 = TLanes.MultiplyAdd(x, b3, c03);
            x = TLanes.Broadcast(a1[k]);
            c10 = TLanes.MultiplyAdd(x, b0, c10);
            c11 = TLanes.MultiplyAdd(x, b1, c11);
            c12 = TLanes.MultiplyAdd(x, b2, c12);
            c13 = TLanes.MultiplyAdd(x, b3, c13);
            x = TLanes.Broadcast(a2[k]);
            c20 = TLanes.MultiplyAdd(x, b0, c20);
            c21 = TLanes.MultiplyAdd(x, b1, c21);
            c22 = TLanes.MultiplyAdd(x, b2, c22);
            c23 = TLanes.MultiplyAdd(x, b3, c23);
            x = TLanes.Broadcast(a3[k]);
            c30 = TLanes.MultiplyAdd(x, b0, c30);
            c31 = TLanes.MultiplyAdd(x, b1, c31);
            c32 = TLanes.MultiplyAdd(x, b2, c32);
            c33 = TLanes.MultiplyAdd(x, b3, c33);
        }

        Store((float*)c[0] + column, c00, c01, c02, c03);
        Store((float*)c[1] + column, c10, c11, c12, c13);
        Store((float*)c[2] + column, c20, c21, c22, c23);
        Store((float*)c[3] + column, c30, c31, c32, c33);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* target, TVector first, TVector second, TVector third, TVector fourth)
    {
        TLanes.Store(target, first);
        TLanes.Store(target + TLanes.Count, second);
        TLanes.Store(target + (2 * TLanes.Count), third);
        TLanes.Store(target + (3 * TLanes.Count), fourth);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FourByTwo(nint* a, float* b, nint bDepth, nint depth, nint* c, nint column, bool accumulate)
    {
        nint next = column + TLanes.Count;
        TVector c00 = default, c01 = default, c10 = default, c11 = default, c20 = default, c21 = default, c30 = default, c31 = default;
        if (accumulate)
        {
            (c00, c01) = (TLanes.Load((float*)c[0] + column), TLanes.Load((float*)c[0] + next));
            (c10, c11) = (TLanes.Load((float*)c[1] + column), TLanes.Load((float*)c[1] + next));
            (c20, c21) = (TLanes.Load((float*)c[2] + column), TLanes.Load((float*)c[2] + next));
            (c30, c31) = (TLanes.Load((float*)c[3] + column), TLanes.Load((float*)c[3] + next));
        }

        float* a0 = (float*)a[0];
        float* a1 = (float*)a[1];
        float* a2 = (float*)a[2];
        float* a3 = (float*)a[3];
        for (nint k = 0; k < depth; k++, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            TVector b1 = TLanes.Load(b + TLanes.Count);
            TVector x = TLanes.Broadcast(a0[k]);
            c00 = TLanes.MultiplyAdd(x, b0, c00);
            c01 = TLanes.MultiplyAdd(x, b1, c01);
            x = TLanes.Broadcast(a1[k]);
            c10 = TLanes.MultiplyAdd(x, b0, c10);
            c11 = TLanes.MultiplyAdd(x, b1, c11);
            x = TLanes.Broadcast(a2[k]);
            c20 = TLanes.MultiplyAdd(x, b0, c20);
            c21 = TLanes.MultiplyAdd(x, b1, c21);
            x = TLanes.Broadcast(a3[k]);
            c30 = TLanes.MultiplyAdd(x, b0, c30);
            c31 = TLanes.MultiplyAdd(x, b1, c31);
        }

        TLanes.Store((float*)c[0] + column, c00);
        TLanes.Store((float*)c[0] + next, c01);
        TLanes.Store((float*)c[1] + column, c10);
        TLanes.Store((float*)c[1] + next, c11);
        TLanes.Store((float*)c[2] + column, c20);
        TLanes.Store((float*)c[2] + next, c21);
        TLanes.Store((float*)c[3] + column, c30);
        TLanes.Store((float*)c[3] + next, c31);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void EightByOne(nint* a, float* b, nint bDepth, nint depth, nint* c, nint column, bool accumulate)
    {
        TVector c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
        if (accumulate)
        {
            (c0, c1) = (TLanes.Load((float*)c[0] + column), TLanes.Load((float*)c[1] + column));
            (c2, c3) = (TLanes.Load((float*)c[2] + column), TLanes.Load((float*)c[3] + column));
            (c4, c5) = (TLanes.Load((float*)c[4] + column), TLanes.Load((float*)c[5] + column));
            (c6, c7) = (TLanes.Load((float*)c[6] + column), TLanes.Load((float*)c[7] + column));
        }

        float* a0 = (float*)a[0];
        float* a1 = (float*)a[1];
        float* a2 = (float*)a[2];
        float* a3 = (float*)a[3];
        float* a4 = (float*)a[4];
        float* a5 = (float*)a[5];
        float* a6 = (float*)a[6];
        float* a7 = (float*)a[7];
        for (nint k = 0; k < depth; k++, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            c0 = TLanes.MultiplyAdd(TLanes.Broadcast(a0[k]), b0, c0);
            c1 = TLanes.MultiplyAdd(TLanes.Broadcast(a1[k]), b0, c1);
            c2 = TLanes.MultiplyAdd(TLanes.Broadcast(a2[k]), b0, c2);
            c3 = TLanes.MultiplyAdd(TLanes.Broadcast(a3[k]), b0, c3);
            c4 = TLanes.MultiplyAdd(TLanes.Broadcast(a4[k]), b0, c4);
            c5 = TLanes.MultiplyAdd(TLanes.Broadcast(a5[k]), b0, c5);
            c6 = TLanes.MultiplyAdd(TLanes.Broadcast(a6[k]), b0, c6);
            c7 = TLanes.MultiplyAdd(TLanes.Broadcast(a7[k]), b0, c7);
        }

        TLanes.Store((float*)c[0] + column, c0);
        TLanes.Store((float*)c[1] + column, c1);
        TLanes.Store((float*)c[2] + column, c2);
        TLanes.Store((float*)c[3] + column, c3);
        TLanes.Store((float*)c[4] + column, c4);
        TLanes.Store((float*)c[5] + column, c5);
        TLanes.Store((float*)c[6] + column, c6);
        TLanes.Store((float*)c[7] + column, c7);
    }
}

/// <summary>
/// Where the rows of a <see cref="GatheredProduct{TLanes, TVector}"/> lie. The last register block is filled up with rows that nobody
/// reads: a block costs the same with one row as with eight, because each of its sums is a chain.
/// </summary>
internal sealed unsafe class RowPairs
{
    /// <summary>Rows of the largest register block.</summary>
    private const int Block = 8;

    private readonly float* _unread;

    /// <param name="arena">Where the addresses live.</param>
    /// <param name="rows">Most rows.</param>
    /// <param name="length">Longest row of either factor or product.</param>
    internal RowPairs(FloatArena arena, int rows, int length)
    {
        Left = (nint*)arena.Take(2L * (rows + Block));
        Target = (nint*)arena.Take(2L * (rows + Block));
        _unread = arena.Take(length + FloatArena.Line);
    }

    internal int Count { get; private set; }

    /// <summary>Addresses of rows of the left factor.</summary>
    internal nint* Left { get; }

    /// <summary>Addresses of rows of the product.</summary>
    internal nint* Target { get; }

    internal void Clear() => Count = 0;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Add(float* left, float* target)
    {
        Left[Count] = (nint)left;
        Target[Count++] = (nint)target;
    }

    /// <summary>Completes the last register block without counting its rows.</summary>
    internal void Pad()
    {
        for (int row = Count; row % Block != 0; row++)
        {
            Left[row] = Left[Count - 1];
            Target[row] = (nint)_unread;
        }
    }
}
