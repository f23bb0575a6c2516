using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Reductions over one row in whole vectors. Sums over long rows are kept in float within <see cref="Block"/> elements and in double
/// beyond, so that they do not lose digits with the length.
/// </summary>
internal static unsafe class RowLanes<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>Elements after which a sum in float is added to one in double.</summary>
    internal const int Block = 1024;

    /// <summary>The largest element; NaN where one is NaN. The row must be followed by -infinity.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static float Largest(float* row, int count)
    {
        TVector largest = TLanes.Load(row);
        for (int c = TLanes.Count; c < count; c += TLanes.Count)
        {
            largest = TLanes.Max(largest, TLanes.Load(row + c));
        }

        return TLanes.Largest(largest);
    }

    /// <summary>Sum of a * b.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double Dot(float* a, float* b, int count)
    {
        double total = 0;
        for (int first = 0; first < count; first += Block)
        {
            int end = Math.Min(first + Block, count);
            TVector sum = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                sum = TLanes.MultiplyAdd(TLanes.Load(a + c), TLanes.Load(b + c), sum);
            }

            total += TLanes.Sum(sum);
        }

        return total;
    }

    /// <summary>Sum of all elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double Sum(float* row, int count)
    {
        double total = 0;
        for (int first = 0; first < count; first += Block)
        {
            int end = Math.Min(first + Block, count);
            TVector sum = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                sum = TLanes.Add(sum, TLanes.Load(row + c));
            }

            total += TLanes.Sum(sum);
        }

        return total;
    }

    /// <summary>row *= factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Scale(float* row, int count, float factor)
    {
        TVector scale = TLanes.Broadcast(factor);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(row + c, TLanes.Multiply(TLanes.Load(row + c), scale));
        }
    }

    /// <summary>row /= divisor: 1 exactly for an element that is the divisor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Divide(float* row, int count, float divisor)
    {
        TVector denominator = TLanes.Broadcast(divisor);
        for (int c = 0; c < count; c += TLanes.Count)
        {
            TLanes.Store(row + c, TLanes.Divide(TLanes.Load(row + c), denominator));
        }
    }

    /// <summary>Turns scores, followed by -infinity, into their softmax, followed by 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Softmax(float* row, int count)
    {
        TVector shift = TLanes.Broadcast(Largest(row, count));
        double total = 0;
        for (int first = 0; first < count; first += Block)
        {
            int end = Math.Min(first + Block, count);
            TVector sum = default;
            for (int c = first; c < end; c += TLanes.Count)
            {
                TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(row + c), shift));
                TLanes.Store(row + c, weight);
                sum = TLanes.Add(sum, weight);
            }

            total += TLanes.Sum(sum);
        }

        Scale(row, count, (float)(1 / total));
    }
}
