using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Rows;

/// <summary>
/// Gradients of the keys and values that the query tiles of one chunk see, summed over these tiles. With a window that is a small part of
/// a long sequence.
/// </summary>
internal sealed class KeyValueSums : IDisposable
{
    private readonly FloatArena _arena;

    internal KeyValueSums(AttentionProblem problem, KeyRange keys)
    {
        Keys = keys;
        long floats = (long)keys.Count * (FloatArena.Pad(problem.HeadDim) + FloatArena.Pad(problem.ValueDim));
        _arena = new FloatArena((int)Math.Min(floats + FloatArena.Line, FloatArena.Large));
        Key = new PaddedRows(_arena, keys.Count, problem.HeadDim);
        Value = new PaddedRows(_arena, keys.Count, problem.ValueDim);
        Key.Clear(keys.Count);
        Value.Clear(keys.Count);
    }

    /// <summary>The keys; row 0 of the sums belongs to the first of them.</summary>
    internal KeyRange Keys { get; }

    internal PaddedRows Key { get; }

    internal PaddedRows Value { get; }

    public void Dispose() => _arena.Dispose();
}
