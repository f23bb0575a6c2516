using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// The register block under every matrix product of the CPU path: C[rows x vectors] = (or +=) A[rows x depth] B[depth x vectors]. Up to 6
/// rows x 2 vectors are kept in registers: 12 accumulators, 2 vectors of B and a broadcast of A are 15 of the 16 registers of AVX2, and
/// 12 independent sums cover the latency of two FMA units. Each step of depth loads 2 vectors and 6 floats for 12 FMAs.
/// </summary>
/// <remarks>
/// Every element of C is one chain of fused steps in the order of depth, for every width and every block shape: results do not depend on where
/// an element falls in a tile. Compiled at once with full optimisation: tiered compilation would run the first calls, often the whole of
/// a small problem, unoptimised.
/// <para>
/// Measured on 64 x 64 x 64 tiles against a register-only FMA loop (2 cores of an AMD EPYC 9004, .NET 10.0): Q K^T, W V and dS^T Q reach
/// 94-97 % with AVX-512 and 87-96 % with AVX2, on one core and on both (SpeedTests). Rejected: 8 x 2, 97 % but 83 % with AVX2, whose
/// registers it overflows; 4 x 2, 96 % and 87-91 %.
/// </para>
/// </remarks>
internal static unsafe class MicroKernel<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>Rows of the largest block.</summary>
    internal const int MaxRows = 6;

    /// <summary>Columns of the largest block.</summary>
    internal static int MaxColumns => 2 * TLanes.Count;

    /// <param name="a">Element [0, 0] of A.</param>
    /// <param name="aRow">Elements from one row of A to the next.</param>
    /// <param name="aDepth">Elements from one column of A to the next; with the two strides exchanged the product is A^T B.</param>
    /// <param name="b">Element [0, 0] of B; the vectors of a row of B are contiguous.</param>
    /// <param name="bDepth">Elements from one row of B to the next.</param>
    /// <param name="depth">Length of the sums.</param>
    /// <param name="c">Element [0, 0] of C.</param>
    /// <param name="cRow">Elements from one row of C to the next.</param>
    /// <param name="accumulate">Whether the sums start from C instead of 0.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Run<TRows, TVectors>(
        float* a, nint aRow, nint aDepth, float* b, nint bDepth, nint depth, float* c, nint cRow, bool accumulate)
        where TRows : struct, ICount
        where TVectors : struct, ICount
    {
        int width = TLanes.Count;
        TVector c00 = default, c01 = default;
        TVector c10 = default, c11 = default;
        TVector c20 = default, c21 = default;
        TVector c30 = default, c31 = default;
        TVector c40 = default, c41 = default;
        TVector c50 = default, c51 = default;
        if (accumulate)
        {
            c00 = TLanes.Load(c);
            c01 = TVectors.Value > 1 ? TLanes.Load(c + width) : default;
            c10 = TRows.Value > 1 ? TLanes.Load(c + cRow) : default;
            c11 = TRows.Value > 1 && TVectors.Value > 1 ? TLanes.Load(c + cRow + width) : default;
            c20 = TRows.Value > 2 ? TLanes.Load(c + (2 * cRow)) : default;
            c21 = TRows.Value > 2 && TVectors.Value > 1 ? TLanes.Load(c + (2 * cRow) + width) : default;
            c30 = TRows.Value > 3 ? TLanes.Load(c + (3 * cRow)) : default;
            c31 = TRows.Value > 3 && TVectors.Value > 1 ? TLanes.Load(c + (3 * cRow) + width) : default;
            c40 = TRows.Value > 4 ? TLanes.Load(c + (4 * cRow)) : default;
            c41 = TRows.Value > 4 && TVectors.Value > 1 ? TLanes.Load(c + (4 * cRow) + width) : default;
            c50 = TRows.Value > 5 ? TLanes.Load(c + (5 * cRow)) : default;
            c51 = TRows.Value > 5 && TVectors.Value > 1 ? TLanes.Load(c + (5 * cRow) + width) : default;
        }

        float* a1 = a + aRow;
        float* a2 = a + (2 * aRow);
        float* a3 = a + (3 * aRow);
        float* a4 = a + (4 * aRow);
        float* a5 = a + (5 * aRow);
        nint k = 0;
        for (nint step = depth; step > 0; step--, k += aDepth, b += bDepth)
        {
            TVector b0 = TLanes.Load(b);
            TVector b1 = TVectors.Value > 1 ? TLanes.Load(b + width) : default;
            TVector x = TLanes.Broadcast(a[k]);
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
            }

            if (TRows.Value > 3)
            {
                x = TLanes.Broadcast(a3[k]);
                c30 = TLanes.MultiplyAdd(x, b0, c30);
                c31 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c31) : c31;
            }

            if (TRows.Value > 4)
            {
                x = TLanes.Broadcast(a4[k]);
                c40 = TLanes.MultiplyAdd(x, b0, c40);
                c41 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c41) : c41;
            }

            if (TRows.Value > 5)
            {
                x = TLanes.Broadcast(a5[k]);
                c50 = TLanes.MultiplyAdd(x, b0, c50);
                c51 = TVectors.Value > 1 ? TLanes.MultiplyAdd(x, b1, c51) : c51;
            }
        }

        Store<TVectors>(c, c00, c01);
        if (TRows.Value > 1)
        {
            Store<TVectors>(c + cRow, c10, c11);
        }

        if (TRows.Value > 2)
        {
            Store<TVectors>(c + (2 * cRow), c20, c21);
        }

        if (TRows.Value > 3)
        {
            Store<TVectors>(c + (3 * cRow), c30, c31);
        }

        if (TRows.Value > 4)
        {
            Store<TVectors>(c + (4 * cRow), c40, c41);
        }

        if (TRows.Value > 5)
        {
            Store<TVectors>(c + (5 * cRow), c50, c51);
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
