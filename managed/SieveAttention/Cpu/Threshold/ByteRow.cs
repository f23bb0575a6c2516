using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Rows of unit vectors rounded to bytes: x ~ step * n with small integers n, four channels to a 32-bit word. Channels 0 and 1 of each word are
/// the low half of the row, 2 and 3 the high half; each half has a 16-bit sum of its own (see <see cref="ScreenedKeys"/>).
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
        Vector128<float> largest = default;
        Vector128<float> squares = default;
        for (int c = 0; c < padded; c += 4)
        {
            Vector128<float> x = Vector128.Load(row + c);
            largest = Vector128.MaxNative(largest, Vector128.Abs(x));
            squares = Vector128.FusedMultiplyAdd(x, x, squares);
        }

        float low = squares[0] + squares[1];
        float high = squares[2] + squares[3];
        return new Extent(
            MathF.Max(MathF.Max(largest[0], largest[1]), MathF.Max(largest[2], largest[3])), MathF.Sqrt(MathF.Max(low, high)));
    }

    /// <summary>Writes n + offset of each channel as a byte.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static Rounded Round(float* row, int padded, float step, int offset, sbyte* target)
    {
        Vector128<float> inverse = Vector128.Create(1 / step);
        Vector128<float> minusStep = Vector128.Create(-step);
        Vector128<int> shift = Vector128.Create(offset);
        Vector128<float> errors = default;
        Vector128<int> sums = default;
        for (int c = 0; c < padded; c += 16)
        {
            Vector128<int> n0 = RoundFour(row + c, inverse, minusStep, ref errors);
            Vector128<int> n1 = RoundFour(row + c + 4, inverse, minusStep, ref errors);
            Vector128<int> n2 = RoundFour(row + c + 8, inverse, minusStep, ref errors);
            Vector128<int> n3 = RoundFour(row + c + 12, inverse, minusStep, ref errors);
            sums += (n0 + n1) + (n2 + n3);
            Vector128.Narrow(Vector128.Narrow(n0 + shift, n1 + shift), Vector128.Narrow(n2 + shift, n3 + shift)).Store(target + c);
        }

        // The float sum of at most a few hundred squares is off by less than 1e-4 of itself.
        return new Rounded(MathF.Sqrt(Vector128.Sum(errors)) * 1.0001f, sums[0] + sums[1], sums[2] + sums[3]);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<int> RoundFour(float* row, Vector128<float> inverse, Vector128<float> minusStep, ref Vector128<float> errors)
    {
        Vector128<float> x = Vector128.Load(row);
        Vector128<float> shifted = Vector128.FusedMultiplyAdd(x, inverse, Vector128.Create(RoundingShift));
        Vector128<float> error = Vector128.FusedMultiplyAdd(minusStep, shifted - Vector128.Create(RoundingShift), x);
        errors = Vector128.FusedMultiplyAdd(error, error, errors);
        return shifted.AsInt32() - Vector128.Create(RoundingBits);
    }
}
