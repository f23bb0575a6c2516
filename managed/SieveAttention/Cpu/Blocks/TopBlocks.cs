using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The largest of some importances, and whether the choice is sure although they carry rounding errors. A threshold is sought that exactly
/// the wanted number exceed: a step compares and counts whole vectors, without a branch for a block, and a handful of steps is enough.
/// </summary>
/// <remarks>
/// Importances come padded: up to the next multiple of <see cref="Padding"/> they are zeros, which no threshold counts.
/// </remarks>
internal static unsafe class TopBlocks<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>Values compared at once, one bit each of a 64-bit word.</summary>
    internal const int Padding = 64;

    /// <summary>Importances below have lost digits to underflow: never sure.</summary>
    private const float Tiny = 1e-30f;

    /// <summary>Chooses the values that are largest and writes their numbers in ascending order.</summary>
    /// <param name="values">Importances, not negative; padded.</param>
    /// <param name="length">How many there are.</param>
    /// <param name="count">How many to choose; all where there are not more.</param>
    /// <param name="margin">Relative distance below which two importances might be the other way round.</param>
    /// <param name="threshold">Where to begin the search, 0 = anywhere; receives where it ended: neighbouring rows are alike.</param>
    /// <param name="first">Number of the first value.</param>
    /// <param name="chosen">Receives the numbers, as many as are to be chosen; unspecified where the choice is not sure.</param>
    /// <returns>Whether every chosen value is ahead of every other one by more than the margin.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static bool Choose(
        float* values, int length, int count, double margin, ref float threshold, int first, Span<int> chosen)
    {
        if (length <= count)
        {
            for (int n = 0; n < length; n++)
            {
                chosen[n] = first + n;
            }

            return true;
        }

        if (count <= 0)
        {
            return true;
        }

        if (!FindThreshold(values, length, count, ref threshold))
        {
            return false;
        }

        float least = Collect(values, length, threshold, first, chosen);
        return least > Tiny && CountNotAtMost(values, length, (float)(least * (1 - margin))) == count;
    }

    /// <summary>Writes the padding behind values.</summary>
    internal static void Pad(float* values, int length) =>
        new Span<float>(values + length, ((length + Padding - 1) / Padding * Padding) - length).Clear();

    /// <summary>
    /// A threshold that <paramref name="count"/> values exceed; none where equal values are in the way or a value is not a number.
    /// </summary>
    /// <remarks>
    /// Bisection on the bits of the floats, which order like the floats that are not negative. The logarithm of the number of values above
    /// is about linear in the bits: most steps follow the line through the ends of the interval, the largest value counting as half a value
    /// above itself. An end that stays counts for less each time (the Illinois rule), or the other end would creep up to it. Every sixth
    /// step halves the interval, which bounds the steps for any values. Random scores take 4 to 5 steps.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool FindThreshold(float* values, int length, int count, ref float threshold)
    {
        float largest = Largest(values, length);
        if (!(largest > Tiny))
        {
            return false;
        }

        (int low, int high) = (0, BitConverter.SingleToInt32Bits(largest));
        (float aboveLow, float aboveHigh) = (0, Logarithm(0.5f));
        (int top, float aboveTop) = (high, aboveHigh);
        float wanted = Logarithm(count + 0.5f);
        int middle = BitConverter.SingleToInt32Bits(threshold);
        if (middle == 0)
        {
            middle = high - (1 << 20);
        }

        bool lowMoved = false;
        for (int step = 1; high - low > 1; step++)
        {
            middle = step % 6 == 0 ? low + ((high - low) / 2) : Math.Clamp(middle, low + 1, high - 1);
            threshold = BitConverter.Int32BitsToSingle(middle);
            int above = CountAbove(values, length, threshold);
            if (above == count)
            {
                return true;
            }

            float logarithm = Logarithm(MathF.Max(above, 0.5f));
            bool moveLow = above > count;
            bool again = step > 1 && moveLow == lowMoved;
            if (moveLow)
            {
                (low, aboveLow) = (middle, logarithm);
                aboveHigh = again ? wanted + ((aboveHigh - wanted) / 2) : aboveHigh;
            }
            else
            {
                (high, aboveHigh) = (middle, logarithm);
                aboveLow = again && low > 0 ? wanted + ((aboveLow - wanted) / 2) : aboveLow;
            }

            lowMoved = moveLow;

            // The line through both ends of the interval; while nothing is known of its low end, through high and the largest value.
            (int from, float aboveFrom) = low > 0 ? (low, aboveLow) : (top, aboveTop);
            float slope = (high - from) / (aboveHigh - aboveFrom);
            middle = float.IsFinite(slope) ? (int)Math.Max(high + (slope * (wanted - aboveHigh)), 0) : low + ((high - low) / 2);
        }

        return false;
    }

    /// <summary>About the binary logarithm, times a constant.</summary>
    private static float Logarithm(float value) => BitConverter.SingleToInt32Bits(value);

    /// <summary>The largest value; NaN where one is NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Largest(float* values, int length)
    {
        TVector largest = TLanes.Load(values);
        for (int n = TLanes.Count; n < length; n += TLanes.Count)
        {
            largest = TLanes.Max(largest, TLanes.Load(values + n));
        }

        return TLanes.Largest(largest);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int CountAbove(float* values, int length, float threshold)
    {
        TVector bound = TLanes.Broadcast(threshold);
        int count = 0;
        for (int n = 0; n < length; n += TLanes.Count)
        {
            count += BitOperations.PopCount(TLanes.GreaterThan(TLanes.Load(values + n), bound));
        }

        return count;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int CountNotAtMost(float* values, int length, float threshold)
    {
        TVector bound = TLanes.Broadcast(threshold);
        int count = 0;
        for (int n = 0; n < length; n += TLanes.Count)
        {
            count += BitOperations.PopCount(TLanes.NotAtMost(TLanes.Load(values + n), bound));
        }

        return count;
    }

    /// <summary>Writes the numbers of the values above the threshold, and returns the least of these values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Collect(float* values, int length, float threshold, int first, Span<int> chosen)
    {
        TVector bound = TLanes.Broadcast(threshold);
        float least = float.PositiveInfinity;
        int place = 0;
        for (int n = 0; n < length; n += Padding)
        {
            // A word at a time rather than a vector: fewer inner loops whose end no processor predicts.
            ulong above = 0;
            for (int lane = 0; lane < Padding; lane += TLanes.Count)
            {
                above |= TLanes.GreaterThan(TLanes.Load(values + n + lane), bound) << lane;
            }

            for (; above != 0; above &= above - 1)
            {
                int value = n + BitOperations.TrailingZeroCount(above);
                least = float.MinNative(least, values[value]);
                chosen[place++] = first + value;
            }
        }

        return least;
    }
}
