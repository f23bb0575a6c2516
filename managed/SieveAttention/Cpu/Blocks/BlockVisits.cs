using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// The block lists of a group tile the other way round: for every block the query rows that selected it, and its place in their lists.
/// Scratch of one thread.
/// </summary>
internal sealed class BlockVisits(int blocks)
{
    private readonly int[] _ends = new int[blocks];
    private (int Row, int Slot)[] _visits = [];
    private int _used;

    /// <summary>One past the last block that any row of the tile selected.</summary>
    internal int End => _used;

    /// <summary>The rows, counted from the first of the tile and ascending, that selected a block.</summary>
    internal ReadOnlySpan<(int Row, int Slot)> Of(int block)
    {
        int start = block == 0 ? 0 : _ends[block - 1];
        return _visits.AsSpan(start, _ends[block] - start);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Set(in GroupTile tile, BlockLists lists)
    {
        Array.Clear(_ends, 0, _used);
        _used = 0;
        int total = 0;
        for (int n = 0; n < tile.Count; n++)
        {
            foreach (int block in lists.Used(tile.Batch, tile.KeyHead, tile.First + n))
            {
                _ends[block]++;
                _used = Math.Max(_used, block + 1);
                total++;
            }
        }

        if (_visits.Length < total)
        {
            _visits = new (int, int)[total];
        }

        // Counts become starts, and every visit moves its block's start on: at the end it is the block's end.
        int start = 0;
        for (int block = 0; block < _used; block++)
        {
            (_ends[block], start) = (start, start + _ends[block]);
        }

        for (int n = 0; n < tile.Count; n++)
        {
            ReadOnlySpan<int> list = lists.Used(tile.Batch, tile.KeyHead, tile.First + n);
            for (int slot = 0; slot < list.Length; slot++)
            {
                _visits[_ends[list[slot]]++] = (n, slot);
            }
        }
    }
}
