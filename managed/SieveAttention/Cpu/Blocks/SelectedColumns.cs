using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The selected keys of one query row as vectors of columns: blocks need not begin or end where vectors do, so a vector may hold keys that
/// are not selected. A strip holds one value for each lane of these vectors, one after the other; a run is a range of selected keys
/// without a gap, which is contiguous in the strip too.
/// </summary>
internal sealed unsafe class SelectedColumns
{
    private readonly FloatArena _arena;
    private readonly int _width;
    private int _capacity;
    private int* _vectors;
    private uint* _lanes;
    private nint* _addresses;
    private readonly List<(int Start, KeyRange Keys)> _runs = [];

    internal SelectedColumns(FloatArena arena, int width)
    {
        _arena = arena;
        _width = width;
        Reserve(256);
    }

    /// <summary>Number of vectors.</summary>
    internal int Count { get; private set; }

    /// <summary>Ranges of selected keys, and where they begin in the strip.</summary>
    internal List<(int Start, KeyRange Keys)> Runs => _runs;

    /// <summary>Floats of a strip, up to a multiple of the vectors that a product writes at once.</summary>
    internal int StripLength => (Count + 3) / 4 * 4 * _width;

    /// <summary>Takes over the selection of a row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Set(BlockLists blocks, int batch, int keyHead, int row)
    {
        Count = 0;
        _runs.Clear();
        int last = -1;
        foreach (int block in blocks.Used(batch, keyHead, row))
        {
            KeyRange keys = blocks.Keys(row, block);
            for (int vector = keys.First / _width; vector <= (keys.End - 1) / _width; vector++)
            {
                if (vector != last)
                {
                    Reserve(Count + 1);
                    _vectors[Count] = vector;
                    _lanes[Count++] = 0;
                    last = vector;
                }

                int from = Math.Max(keys.First - (vector * _width), 0);
                int end = Math.Min(keys.End - (vector * _width), _width);
                _lanes[Count - 1] |= (uint.MaxValue >> (32 - (end - from))) << from;
            }

            int firstVector = Count - 1 - (((keys.End - 1) / _width) - (keys.First / _width));
            if (_runs.Count > 0 && _runs[^1].Keys.End == keys.First)
            {
                _runs[^1] = (_runs[^1].Start, new KeyRange(_runs[^1].Keys.First, keys.End));
            }
            else
            {
                _runs.Add(((firstVector * _width) + (keys.First % _width), keys));
            }
        }
    }

    /// <summary>
    /// The addresses of the vectors in a matrix packed in panels of one vector, padded to a multiple of four. Such a panel is contiguous:
    /// blocks are fetched from all over the keys, and memory delivers 4 KB in a row faster than every second line of 8 KB.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal nint* Addresses(ColumnPanels matrix)
    {
        for (int n = 0; n < Count; n++)
        {
            int column = _vectors[n] * _width;
            (int tile, column) = Math.DivRem(column, ColumnPanels.TileRows);
            RightFactor factor = matrix.Tile(tile);
            _addresses[n] = (nint)(factor.Data + (column / _width * factor.PanelStride));
        }

        for (int n = Count; n % 4 != 0; n++)
        {
            _addresses[n] = _addresses[Count - 1];
        }

        return _addresses;
    }

    /// <summary>Writes a value where the strip has lanes that are not selected.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Mask(float* strip, float value)
    {
        uint all = uint.MaxValue >> (32 - _width);
        for (int n = 0; n < Count; n++)
        {
            for (uint others = all & ~_lanes[n]; others != 0; others &= others - 1)
            {
                strip[(n * _width) + BitOperations.TrailingZeroCount(others)] = value;
            }
        }

        new Span<float>(strip + (Count * _width), StripLength - (Count * _width)).Fill(value);
    }

    private void Reserve(int count)
    {
        if (count + 4 <= _capacity)
        {
            return;
        }

        int capacity = Math.Max(2 * _capacity, count + 4);
        int* vectors = (int*)_arena.Take(capacity);
        uint* lanes = (uint*)_arena.Take(capacity);
        new Span<int>(_vectors, Count).CopyTo(new Span<int>(vectors, capacity));
        new Span<uint>(_lanes, Count).CopyTo(new Span<uint>(lanes, capacity));
        _vectors = vectors;
        _lanes = lanes;
        _capacity = capacity;
        _addresses = (nint*)_arena.Take(2L * capacity);
    }
}
