using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>A few weights of one row and the rows of B they belong to, in ascending order: the sparse counterpart of a row of A.</summary>
internal sealed unsafe class WeightList : IDisposable
{
    private readonly AlignedBuffer _weights = new(ColumnPanels.TileRows);
    private readonly int[] _rows = GC.AllocateArray<int>(ColumnPanels.TileRows, pinned: true);

    internal int Count { get; private set; }

    internal float* Weights => _weights.Data;

    internal int* Rows => (int*)Unsafe.AsPointer(ref _rows[0]);

    internal void Clear() => Count = 0;

    internal void Add(int row, float weight)
    {
        _rows[Count] = row;
        Weights[Count++] = weight;
    }

    public void Dispose() => _weights.Dispose();
}
