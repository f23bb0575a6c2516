using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>One view of one query tile: its unit rows, its scores against a key tile, and which of them exceed the threshold.</summary>
internal sealed unsafe class ThresholdView(int channels) : IDisposable
{
    internal PaddedRows Rows { get; } = new(QueryTile.MaxRows, channels);

    internal float[] InverseNorms { get; } = new float[QueryTile.MaxRows];

    /// <summary>Scores of the latest <see cref="Find"/>; -infinity where masked.</summary>
    internal ScoreTile Scores { get; } = new();

    /// <summary>Bit c of a row is set iff key c of the tile is visible and its score is strictly above tau.</summary>
    internal ulong[] Survivors { get; } = new ulong[QueryTile.MaxRows];

    internal void Load(HostArray<float> queries, in QueryTile tile)
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            InverseNorms[row] = UnitRow.Normalize(queries.Row(tile.Batch, tile.Head, tile.First + row), Rows.Span(row));
            Rows.ClearPadding(row);
        }
    }

    /// <summary>Scores a key tile and marks the survivors.</summary>
    /// <returns>Number of survivors of all rows.</returns>
    internal int Find<TLanes, TVector>(TileSchedule schedule, in QueryTile tile, UnitKeys keys, int keyTile, ReadOnlySpan<float> tau)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Score<TLanes, TVector>(schedule, tile, keys, keyTile);
        return Compare<TLanes, TVector>(tile.Rows, tau);
    }

    internal void Score<TLanes, TVector>(TileSchedule schedule, in QueryTile tile, UnitKeys keys, int keyTile)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TileProduct<TLanes, TVector>.Multiply(
            Rows.Left(0), keys.Columns.Tile(keyTile), tile.Rows, channels, schedule.KeysInTile(keyTile), Scores.Data, ScoreTile.Stride, accumulate: false);
        Scores.Mask(schedule, tile, keyTile);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Compare<TLanes, TVector>(int rows, ReadOnlySpan<float> tau)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = 0;
        for (int row = 0; row < rows; row++)
        {
            TVector threshold = TLanes.Broadcast(tau[row]);
            float* scores = Scores.Row(row);
            ulong bits = 0;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                bits |= TLanes.GreaterThan(TLanes.Load(scores + c), threshold) << c;
            }

            Survivors[row] = bits;
            count += BitOperations.PopCount(bits);
        }

        return count;
    }

    public void Dispose()
    {
        Rows.Dispose();
        Scores.Dispose();
    }
}
