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

        float least = importance[heap[0]];
        foreach (int block in candidates[count..])
        {
            if (importance[block] > least)
            {
                heap[0] = block;
                Sink(importance, heap, count, 0);
                least = importance[heap[0]];
            }
        }

        chosen.AddRange(heap.AsSpan(0, count));
        return IsSure(importance, candidates, heap.AsSpan(0, count), (float)(least * (1 - margin)));
    }

    /// <summary>
    /// Whether none but the chosen candidates is above the bound. NaN is never sure, and neither are tiny importances, which have lost
    /// digits to underflow.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool IsSure(ReadOnlySpan<float> importance, ReadOnlySpan<int> candidates, ReadOnlySpan<int> chosen, float bound)
    {
        foreach (int block in chosen)
        {
            if (!(importance[block] > 1e-30f))
            {
                return false;
            }
        }

        int above = 0;
        foreach (int block in candidates)
        {
            above += importance[block] <= bound ? 0 : 1;
        }

        return above == chosen.Length;
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
