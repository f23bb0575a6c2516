using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The blocks of largest importance among consecutive ones, and whether the choice is sure although importances carry rounding errors.
/// A threshold is sought that exactly the wanted number exceed: every step compares and counts whole vectors, without a branch for a
/// block, and takes about as long as reading the importances once.
/// </summary>
internal static unsafe class TopBlocks<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>Importances below have lost digits to underflow: never sure.</summary>
    private const float Tiny = 1e-30f;

    /// <summary>Chooses the blocks of largest importance and appends them in ascending order.</summary>
    /// <param name="importance">Importance of each block, not negative.</param>
    /// <param name="first">First candidate.</param>
    /// <param name="end">End of the candidates.</param>
    /// <param name="count">How many; all where there are not more candidates.</param>
    /// <param name="margin">Relative distance below which two importances might be the other way round.</param>
    /// <param name="chosen">Receives the blocks; unspecified where the choice is not sure.</param>
    /// <returns>Whether every chosen block is ahead of every other one by more than the margin.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static bool Choose(float* importance, int first, int end, int count, double margin, List<int> chosen)
    {
        if (end - first <= count)
        {
            for (int block = first; block < end; block++)
            {
                chosen.Add(block);
            }

            return true;
        }

        if (count <= 0)
        {
            return true;
        }

        float* candidates = importance + first;
        if (!FindThreshold(candidates, end - first, count, out float threshold))
        {
            return false;
        }

        float least = Collect(candidates, end - first, threshold, first, chosen);
        return least > Tiny && CountNotAtMost(candidates, end - first, (float)(least * (1 - margin))) == count;
    }

    /// <summary>
    /// A threshold that <paramref name="count"/> values exceed; none where equal values are in the way or a value is not a number.
    /// </summary>
    /// <remarks>
    /// Bisection on the bits of the floats, which order like the floats that are not negative. The bits grow like the logarithm of an
    /// importance, and so does, about, the logarithm of the number of values above them: two steps in three interpolate, and every third
    /// halves the interval, which bounds the steps for any values.
    /// </remarks>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool FindThreshold(float* values, int length, int count, out float threshold)
    {
        (float least, float largest) = Range(values, length);
        threshold = 0;
        if (!(largest > Tiny) || !(least >= 0))
        {
            return false;
        }

        int low = Math.Max(BitConverter.SingleToInt32Bits(least) - 1, 0);
        int high = BitConverter.SingleToInt32Bits(largest);
        float wanted = MathF.Log2(count + 0.5f);
        float aboveLow = MathF.Log2(length);
        float aboveHigh = -1;
        for (int step = 1; high - low > 1; step++)
        {
            int middle = low + ((high - low) / 2);
            if (step % 3 != 0)
            {
                float share = (aboveLow - wanted) / (aboveLow - aboveHigh);
                middle = Math.Clamp(low + (int)(share * (high - low)), low + 1, high - 1);
            }

            threshold = BitConverter.Int32BitsToSingle(middle);
            int above = CountAbove(values, length, threshold);
            if (above == count)
            {
                return true;
            }

            if (above > count)
            {
                (low, aboveLow) = (middle, MathF.Log2(above));
            }
            else
            {
                (high, aboveHigh) = (middle, above == 0 ? -1 : MathF.Log2(above));
            }
        }

        return false;
    }

    /// <summary>Least and largest value; NaN where one is NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static (float Least, float Largest) Range(float* values, int length)
    {
        float last = values[length - 1];
        TVector largest = TLanes.Broadcast(last);
        TVector leastNegated = TLanes.Broadcast(-last);
        int n = 0;
        for (; n + TLanes.Count <= length; n += TLanes.Count)
        {
            TVector value = TLanes.Load(values + n);
            largest = TLanes.Max(largest, value);
            leastNegated = TLanes.Max(leastNegated, TLanes.Subtract(default, value));
        }

        (float least, float most) = (-TLanes.Largest(leastNegated), TLanes.Largest(largest));
        for (; n < length; n++)
        {
            (least, most) = (MathF.Min(least, values[n]), MathF.Max(most, values[n]));
        }

        return (least, most);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int CountAbove(float* values, int length, float threshold)
    {
        TVector bound = TLanes.Broadcast(threshold);
        int count = 0;
        int n = 0;
        for (; n + TLanes.Count <= length; n += TLanes.Count)
        {
            count += BitOperations.PopCount(TLanes.GreaterThan(TLanes.Load(values + n), bound));
        }

        for (; n < length; n++)
        {
            count += values[n] > threshold ? 1 : 0;
        }

        return count;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int CountNotAtMost(float* values, int length, float threshold)
    {
        TVector bound = TLanes.Broadcast(threshold);
        int count = 0;
        int n = 0;
        for (; n + TLanes.Count <= length; n += TLanes.Count)
        {
            count += BitOperations.PopCount(TLanes.NotAtMost(TLanes.Load(values + n), bound));
        }

        for (; n < length; n++)
        {
            count += values[n] <= threshold ? 0 : 1;
        }

        return count;
    }

    /// <summary>Appends the numbers of the values above the threshold, and returns the least of these values.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Collect(float* values, int length, float threshold, int first, List<int> chosen)
    {
        TVector bound = TLanes.Broadcast(threshold);
        float least = float.PositiveInfinity;
        int n = 0;
        for (; n + TLanes.Count <= length; n += TLanes.Count)
        {
            for (ulong above = TLanes.GreaterThan(TLanes.Load(values + n), bound); above != 0; above &= above - 1)
            {
                int value = n + BitOperations.TrailingZeroCount(above);
                least = MathF.Min(least, values[value]);
                chosen.Add(first + value);
            }
        }

        for (; n < length; n++)
        {
            if (values[n] > threshold)
            {
                least = MathF.Min(least, values[n]);
                chosen.Add(first + n);
            }
        }

        return least;
    }
}
