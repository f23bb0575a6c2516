using System.Numerics;
using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// A pair that contributes in at least one view, with both exceedances; an exceedance is 0 in a view where it does not, or NaN.
/// </summary>
internal readonly record struct Survivor(int Row, int Column, float Exceedance1, float Exceedance2)
{
    /// <summary>a_1 - lambda a_2, in the steps of the vector form. Lambda 0 is the single-view operator, whatever view 2 holds.</summary>
    internal float Weight(ThresholdPower power, float lambda)
    {
        float weight = Exceedance1 != 0 ? power.Weight(Exceedance1) : 0;
        return Exceedance2 != 0 && lambda != 0 ? MathF.FusedMultiplyAdd(-lambda, power.Weight(Exceedance2), weight) : weight;
    }
}

/// <summary>
/// The key tiles of one query tile that have survivors, and the survivors themselves where they are few: the backward pass first finds
/// them to form the row that the norm and the gate differentiate, and needs them again after that. Tiles with many are scored a second
/// time.
/// </summary>
internal sealed class SurvivorLog
{
    private readonly List<(int KeyTile, int Start, int Count)> _tiles = [];
    private Survivor[] _survivors = new Survivor[1024];
    private int _count;

    /// <summary>Tiles with survivors in ascending order; a count of -1 marks a tile to be scored again.</summary>
    internal IReadOnlyList<(int KeyTile, int Start, int Count)> Tiles => _tiles;

    internal void Clear()
    {
        _tiles.Clear();
        _count = 0;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Add(int keyTile, bool dense, ThresholdTile tile, int rows)
    {
        int start = _count;
        for (int row = 0; !dense && row < rows; row++)
        {
            for (ulong columns = tile.Contributing(row); columns != 0; columns &= columns - 1)
            {
                Append(tile.At(row, BitOperations.TrailingZeroCount(columns)));
            }
        }

        _tiles.Add((keyTile, start, dense ? -1 : _count - start));
    }

    internal ReadOnlySpan<Survivor> Slice(int start, int count) => _survivors.AsSpan(start, count);

    private void Append(Survivor survivor)
    {
        if (_count == _survivors.Length)
        {
            Array.Resize(ref _survivors, 2 * _count);
        }

        _survivors[_count++] = survivor;
    }
}
