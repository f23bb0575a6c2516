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

    /// <summary>
    /// Bit c of a row is set iff key c of the tile is visible and its score is not at most tau: the pairs that contribute. They are
    /// the survivors and, so that NaN shows in the result instead of vanishing, pairs whose score is NaN.
    /// </summary>
    internal ulong[] Contributing { get; } = new ulong[QueryTile.MaxRows];

    internal void Load(HostArray<float> queries, in QueryTile tile)
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            InverseNorms[row] = UnitRow.Normalize(queries.Row(tile.Batch, tile.Head, tile.First + row), Rows.Span(row));
            Rows.ClearPadding(row);
        }
    }

    /// <summary>Scores a key tile, marks the pairs that contribute, and adds the survivors of each row to <paramref name="survivors"/>.</summary>
    /// <returns>Number of pairs that contribute, of all rows.</returns>
    internal int Find<TLanes, TVector>(
        TileSchedule schedule, in QueryTile tile, UnitKeys keys, int keyTile, ReadOnlySpan<float> tau, Span<int> survivors)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Score<TLanes, TVector>(schedule, tile, keys, keyTile);
        int count = Mark<TLanes, TVector>(tile.Rows, tau);
        if (count > 0)
        {
            Count<TLanes, TVector>(tile.Rows, tau, survivors);
        }

        return count;
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
    private int Mark<TLanes, TVector>(int rows, ReadOnlySpan<float> tau)
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
                bits |= TLanes.NotAtMost(TLanes.Load(scores + c), threshold) << c;
            }

            Contributing[row] = bits;
            count += BitOperations.PopCount(bits);
        }

        return count;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Count<TLanes, TVector>(int rows, ReadOnlySpan<float> tau, Span<int> survivors)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            if (Contributing[row] == 0)
            {
                continue;
            }

            TVector threshold = TLanes.Broadcast(tau[row]);
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                survivors[row] += BitOperations.PopCount(TLanes.GreaterThan(TLanes.Load(Scores.Row(row) + c), threshold));
            }
        }
    }

    public void Dispose()
    {
        Rows.Dispose();
        Scores.Dispose();
    }
}
