using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The largest of some importances, and whether the choice is sure although they carry rounding errors: a heap with the least chosen block
/// on top.
/// </summary>
internal sealed class TopBlocks
{
    private int[] _blocks = [];

    /// <summary>
    /// Chooses the <paramref name="count"/> candidates of largest importance and appends them.
    /// </summary>
    /// <param name="importance">Importance of each block.</param>
    /// <param name="candidates">Blocks to choose from.</param>
    /// <param name="count">How many; all where there are not more candidates.</param>
    /// <param name="margin">Relative distance below which two importances might be the other way round.</param>
    /// <param name="chosen">Receives the blocks.</param>
    /// <returns>Whether every chosen block is ahead of every other one by more than the margin.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal bool Choose(ReadOnlySpan<float> importance, ReadOnlySpan<int> candidates, int count, double margin, List<int> chosen)
    {
        if (candidates.Length <= count)
        {
            chosen.AddRange(candidates);
            return true;
        }

        if (count <= 0)
        {
            return true;
        }

        if (_blocks.Length < count)
        {
            _blocks = new int[count];
        }

        int[] heap = _blocks;
        candidates[..count].CopyTo(heap);
        for (int n = (count / 2) - 1; n >= 0; n--)
        {
            Sink(importance, heap, count, n);
        }

        float refused = float.NegativeInfinity;
        bool ordered = true;
        for (int n = 0; n < candidates.Length; n++)
        {
            float value = importance[candidates[n]];
            ordered &= value >= 0;
            if (n < count)
            {
                continue;
            }

            float least = importance[heap[0]];
            if (value > least)
            {
                refused = MathF.Max(refused, least);
                heap[0] = candidates[n];
                Sink(importance, heap, count, 0);
            }
            else
            {
                refused = MathF.Max(refused, value);
            }
        }

        chosen.AddRange(heap.AsSpan(0, count));
        // Tiny importances have lost digits to underflow. Comparisons with NaN are false: such a choice is not sure.
        return ordered && importance[heap[0]] > 1e-30f && importance[heap[0]] * (1 - margin) > refused;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Sink(ReadOnlySpan<float> importance, int[] heap, int count, int n)
    {
        int block = heap[n];
        float value = importance[block];
        for (int child = (2 * n) + 1; child < count; child = (2 * n) + 1)
        {
            if (child + 1 < count && importance[heap[child + 1]] < importance[heap[child]])
            {
                child++;
            }

            if (!(importance[heap[child]] < value))
            {
                break;
            }

            heap[n] = heap[child];
            n = child;
        }

        heap[n] = block;
    }
}
