using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace SieveAttention.Cpu.Tiles;

/// <summary>
/// Operations on single rows of any length, on vectors of one fixed width so that sums have the same bits whatever width the tiles use.
/// </summary>
/// <remarks>
/// Their own code instead of TensorPrimitives, whose assembly is compiled on first use, without optimisation for its first 100 ms or
/// more: a call that takes a few milliseconds would spend most of them there.
/// </remarks>
internal static class RowMath
{
    /// <summary>target = factor * source; both may be the same row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Scale(ReadOnlySpan<float> source, float factor, Span<float> target)
    {
        ref float from = ref MemoryMarshal.GetReference(source);
        ref float to = ref MemoryMarshal.GetReference(target[..source.Length]);
        int c = 0;
        for (; c + 8 <= source.Length; c += 8)
        {
            (Vector256.LoadUnsafe(ref from, (nuint)c) * factor).StoreUnsafe(ref to, (nuint)c);
        }

        for (; c < source.Length; c++)
        {
            target[c] = source[c] * factor;
        }
    }

    /// <summary>target *= factors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(ReadOnlySpan<float> factors, Span<float> target)
    {
        ref float from = ref MemoryMarshal.GetReference(factors);
        ref float to = ref MemoryMarshal.GetReference(target[..factors.Length]);
        int c = 0;
        for (; c + 8 <= factors.Length; c += 8)
        {
            (Vector256.LoadUnsafe(ref to, (nuint)c) * Vector256.LoadUnsafe(ref from, (nuint)c)).StoreUnsafe(ref to, (nuint)c);
        }

        for (; c < factors.Length; c++)
        {
            target[c] *= factors[c];
        }
    }

    /// <summary>Sum of squares in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double SumOfSquares(ReadOnlySpan<float> row)
    {
        ref float start = ref MemoryMarshal.GetReference(row);
        Vector256<double> sum0 = default;
        Vector256<double> sum1 = default;
        int c = 0;
        for (; c + 8 <= row.Length; c += 8)
        {
            (Vector256<double> x0, Vector256<double> x1) = Vector256.Widen(Vector256.LoadUnsafe(ref start, (nuint)c));
            sum0 = Vector256.FusedMultiplyAdd(x0, x0, sum0);
            sum1 = Vector256.FusedMultiplyAdd(x1, x1, sum1);
        }

        double sum = Vector256.Sum(sum0 + sum1);
        for (; c < row.Length; c++)
        {
            sum += (double)row[c] * row[c];
        }

        return sum;
    }

    /// <summary>target += source.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Add(ReadOnlySpan<float> source, Span<float> target)
    {
        ref float from = ref MemoryMarshal.GetReference(source);
        ref float to = ref MemoryMarshal.GetReference(target[..source.Length]);
        int c = 0;
        for (; c + 8 <= source.Length; c += 8)
        {
            (Vector256.LoadUnsafe(ref to, (nuint)c) + Vector256.LoadUnsafe(ref from, (nuint)c)).StoreUnsafe(ref to, (nuint)c);
        }

        for (; c < source.Length; c++)
        {
            target[c] += source[c];
        }
    }

    /// <summary>Inner product, summed in double.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double Dot(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        double sum = 0;
        for (int c = 0; c < a.Length; c++)
        {
            sum += (double)a[c] * b[c];
        }

        return sum;
    }

    /// <summary>
    /// Inner product as one chain of fused steps, the arithmetic of a tile product. Where one weight is nearly 1 the output is nearly its
    /// value: dw - delta is small then, and with delta = dO . O from here its rounding cancels; it is 0 for a row that sees one key.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static float Chain(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        float sum = 0;
        for (int c = 0; c < a.Length; c++)
        {
            sum = MathF.FusedMultiplyAdd(a[c], b[c], sum);
        }

        return sum;
    }

    /// <summary>Whether there is neither NaN nor infinity: 0 times either of them is NaN, 0 times anything else is 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static bool IsFinite(ReadOnlySpan<float> row)
    {
        ref float start = ref MemoryMarshal.GetReference(row);
        Vector256<float> sum0 = default;
        Vector256<float> sum1 = default;
        int c = 0;
        for (; c + 16 <= row.Length; c += 16)
        {
            sum0 += Vector256.LoadUnsafe(ref start, (nuint)c) * Vector256<float>.Zero;
            sum1 += Vector256.LoadUnsafe(ref start, (nuint)c + 8) * Vector256<float>.Zero;
        }

        bool finite = Vector256.Sum(sum0 + sum1) == 0;
        for (; c < row.Length; c++)
        {
            finite &= float.IsFinite(row[c]);
        }

        return finite;
    }
}
