using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>Scores, weights or gradients of the heads of one query row with its selected keys; grows with the longest selection.</summary>
internal sealed unsafe class Strip(FloatArena arena, int rows)
{
    private int _capacity;

    internal float* Data { get; private set; }

    /// <summary>Elements from one row to the next.</summary>
    internal int Stride { get; private set; }

    internal float* Row(int row) => Data + ((nint)row * Stride);

    internal LeftFactor From(int column) => new(Data + column, Stride);

    /// <summary>Makes room for rows of a length; what they hold is lost.</summary>
    internal void Resize(int length)
    {
        Stride = length;
        if (length > _capacity)
        {
            _capacity = Math.Max(length, 2 * _capacity);
            Data = arena.Take((long)rows * _capacity);
        }
    }
}
