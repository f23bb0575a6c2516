using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Rows of unit vectors rounded to bytes: x ~ step * n with small integers n, four channels to a 32-bit word. Channels 0 and 1 of each
/// word are the low half of the row, 2 and 3 the high half; each half has a 16-bit sum of its own (see <see cref="ScreenedKeys"/>).
/// </summary>
internal static unsafe class ByteRow
{
    private const float RoundingShift = 12582912f; // 1.5 * 2^23: adding it rounds to an integer, which the low bits then hold
    private const int RoundingBits = 0x4B400000;

    /// <summary>What the choice of a step depends on.</summary>
    /// <param name="Largest">Largest magnitude.</param>
    /// <param name="HalfNorm">Norm of the half with the larger one.</param>
    internal readonly record struct Extent(float Largest, float HalfNorm);

    /// <summary>A rounded row.</summary>
    /// <param name="Error">Norm of row - step * n.</param>
    /// <param name="LowSum">Sum of n over the low half.</param>
    /// <param name="HighSum">Sum of n over the high half.</param>
    internal readonly record struct Rounded(float Error, int LowSum, int HighSum);

    /// <summary>Measures a row of <paramref name="padded"/> floats, a multiple of 16.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static Extent Measure(float* row, int padded)
    {
        Vector256<float> largest = default;
        Vector256<float> squares0 = default;
        Vector256<float> squares1 = default;
        for (int c = 0; c < padded; c += 16)
        {
            Vector256<float> x0 = Vector256.Load(row + c);
            Vector256<float> x1 = Vector256.Load(row + c + 8);
            largest = Vector256.MaxNative(largest, Vector256.MaxNative(Vector256.Abs(x0), Vector256.Abs(x1)));
            squares0 = Vector256.FusedMultiplyAdd(x0, x0, squares0);
            squares1 = Vector256.FusedMultiplyAdd(x1, x1, squares1);
        }

        Vector128<float> top = Vector128.MaxNative(largest.GetLower(), largest.GetUpper());
        Vector128<float> squares = (squares0 + squares1).GetLower() + (squares0 + squares1).GetUpper();
        float low = squares[0] + squares[1];
        float high = squares[2] + squares[3];
        return new Extent(MathF.Max(MathF.Max(top[0], top[1]), MathF.Max(top[2], top[3])), MathF.Sqrt(MathF.Max(low, high)));
    }

    /// <summary>Writes n + offset of each channel as a byte.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static Rounded Round(float* row, int padded, float step, int offset, sbyte* target)
    {
        Vector256<float> inverse = Vector256.Create(1 / step);
        Vector256<float> minusStep = Vector256.Create(-step);
        Vector256<int> shift = Vector256.Create(offset);
        Vector256<float> errors0 = default;
        Vector256<float> errors1 = default;
        Vector256<int> sums = default;
        for (int c = 0; c < padded; c += 16)
        {
            Vector256<int> n0 = RoundEight(row + c, inverse, minusStep, ref errors0);
            Vector256<int> n1 = RoundEight(row + c + 8, inverse, minusStep, ref errors1);
            sums += n0 + n1;
            Vector256<short> words = Vector256.Narrow(n0 + shift, n1 + shift);
            Vector128.Narrow(words.GetLower(), words.GetUpper()).Store(target + c);
        }

        Vector128<int> halves = sums.GetLower() + sums.GetUpper();
        // The float sum of at most a few hundred squares is off by less than 1e-4 of itself.
        return new Rounded(MathF.Sqrt(Vector256.Sum(errors0 + errors1)) * 1.0001f, halves[0] + halves[1], halves[2] + halves[3]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> RoundEight(float* row, Vector256<float> inverse, Vector256<float> minusStep, ref Vector256<float> errors)
    {
        Vector256<float> x = Vector256.Load(row);
        Vector256<float> shifted = Vector256.FusedMultiplyAdd(x, inverse, Vector256.Create(RoundingShift));
        Vector256<float> error = Vector256.FusedMultiplyAdd(minusStep, shifted - Vector256.Create(RoundingShift), x);
        errors = Vector256.FusedMultiplyAdd(error, error, errors);
        return shifted.AsInt32() - Vector256.Create(RoundingBits);
    }
}
