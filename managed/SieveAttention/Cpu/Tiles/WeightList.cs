namespace SieveAttention.Cpu.Tiles;

/// <summary>A few weights of one row and the rows of B they belong to, in ascending order: the sparse counterpart of a row of A.</summary>
internal sealed unsafe class WeightList(FloatArena arena)
{
    internal int Count { get; private set; }

    internal float* Weights { get; } = arena.Take(ColumnPanels.TileRows);

    internal int* Rows { get; } = (int*)arena.Take(ColumnPanels.TileRows);

    internal void Clear() => Count = 0;

    internal void Add(int row, float weight)
    {
        Rows[Count] = row;
        Weights[Count++] = weight;
    }
}
