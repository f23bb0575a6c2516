using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>One view of one query tile: its unit rows, its scores against a key tile, and which of them exceed the threshold.</summary>
/// <param name="call">The call.</param>
/// <param name="arena">Where its buffers live.</param>
internal sealed unsafe class ThresholdView(ThresholdCall call, FloatArena arena)
{
    private readonly int _channels = call.Problem.HeadDim;
    private readonly PaddedRows _bytes = new(arena, QueryTile.MaxRows, ScreenedKeys.Words(call.Problem.HeadDim));
    private readonly float[] _inverseSteps = new float[QueryTile.MaxRows];
    private readonly float[] _errors = new float[QueryTile.MaxRows];
    private readonly int[] _bounds = new int[QueryTile.MaxRows];
    private bool _screenNext;

    internal PaddedRows Rows { get; } = new(arena, QueryTile.MaxRows, call.Problem.HeadDim);

    internal float[] InverseNorms { get; } = new float[QueryTile.MaxRows];

    /// <summary>Whether the unit rows have neither NaN nor infinity.</summary>
    internal bool Finite { get; private set; }

    /// <summary>Scores of the latest <see cref="Find"/>: of all pairs, -infinity where masked, or of those that contribute.</summary>
    internal ScoreTile Scores { get; } = new(arena);

    /// <summary>Whether <see cref="Scores"/> holds all pairs.</summary>
    internal bool Complete { get; private set; }

    /// <summary>
    /// Bit c of a row is set iff key c of the tile is visible and its score is not at most tau: the pairs that contribute. They are
    /// the survivors and, so that NaN shows in the result instead of vanishing, pairs whose score is NaN.
    /// </summary>
    internal ulong[] Contributing { get; } = new ulong[QueryTile.MaxRows];

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Load(HostArray<float> queries, in QueryTile tile)
    {
        Finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            InverseNorms[row] = UnitRow.Normalize(queries.Row(tile.Batch, tile.Head, tile.First + row), Rows.Span(row));
            Rows.ClearPadding(row);
            Finite &= UnitRow.IsFinite(InverseNorms[row]);
        }

        _screenNext = Finite && call.Screens;
        for (int row = 0; _screenNext && row < tile.Rows; row++)
        {
            float step = ScreenedKeys.QueryStep(ByteRow.Measure(Rows.Row(row), Rows.Stride), _channels);
            _inverseSteps[row] = 1 / step;
            _errors[row] = ByteRow.Round(Rows.Row(row), Rows.Stride, step, ScreenedKeys.Offset, (sbyte*)_bytes.Row(row)).Error;
        }
    }

    /// <summary>
    /// Marks the pairs of a key tile that contribute, and adds the survivors of each row to <paramref name="survivors"/>. Scores are
    /// those of one chain of fused steps a pair, whether all are computed or only those of candidates.
    /// </summary>
    /// <returns>Number of pairs that contribute, of all rows.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal int Find<TLanes, TVector>(
        in QueryTile tile, UnitKeys keys, int keyTile, ReadOnlySpan<float> tau, Span<int> survivors, bool complete)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Complete = complete || !_screenNext || !keys.IsFinite(keyTile);
        if (!Complete)
        {
            int candidates = Screen<TLanes, TVector>(tile, keys.Screen!, keyTile, tau);
            if (candidates <= call.MaxCandidates)
            {
                return candidates == 0 ? 0 : Decide(tile.Rows, keys, keyTile, tau, survivors);
            }

            Complete = true;
        }

        TileProduct<TLanes, TVector>.Multiply(
            Rows.Left(0), keys.Columns(keyTile), tile.Rows, _channels, call.Schedule.KeysInTile(keyTile),
            Scores.Data, ScoreTile.Stride, accumulate: false);
        Scores.Mask(call.Schedule, tile, keyTile);
        int count = Mark<TLanes, TVector>(tile.Rows, tau);
        if (count > 0)
        {
            Count<TLanes, TVector>(tile.Rows, tau, survivors);
        }

        // Neighbouring tiles are alike: screening resumes where it would have left few enough candidates.
        _screenNext = Finite && call.Screens && 2 * count <= call.MaxCandidates;
        return count;
    }

    /// <summary>Marks in <see cref="Contributing"/> the pairs that byte products cannot rule out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Screen<TLanes, TVector>(in QueryTile tile, ScreenedKeys keys, int keyTile, ReadOnlySpan<float> tau)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            _bounds[row] = keys.Bound(keyTile, tau[row], _inverseSteps[row], _errors[row]);
        }

        ByteScreen<TLanes, TVector>.Run(
            _bytes, keys.Columns(keyTile), keys.Corrections(keyTile), tile.Rows, call.Schedule.KeysInTile(keyTile), _bounds, Contributing);
        bool whole = call.Schedule.SeesWholeTile(tile, keyTile);
        int count = 0;
        for (int row = 0; row < tile.Rows; row++)
        {
            ulong bits = Contributing[row];
            bits = whole ? bits : bits & call.Schedule.VisibleBits(tile.First + row, keyTile);
            Contributing[row] = bits;
            count += BitOperations.PopCount(bits);
        }

        return count;
    }

    /// <summary>Scores the candidates and keeps those above the threshold.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Decide(int rows, UnitKeys keys, int keyTile, ReadOnlySpan<float> tau, Span<int> survivors)
    {
        // Four at a time: each score is a chain, whose steps would wait for each other.
        int* row = stackalloc int[4];
        int* column = stackalloc int[4];
        int waiting = 0;
        for (int r = 0; r < rows; r++)
        {
            for (ulong candidates = Contributing[r]; candidates != 0; candidates &= candidates - 1)
            {
                (row[waiting], column[waiting]) = (r, BitOperations.TrailingZeroCount(candidates));
                if (++waiting == 4)
                {
                    Score(row, column, keys, keyTile);
                    waiting = 0;
                }
            }
        }

        if (waiting > 0)
        {
            for (int n = waiting; n < 4; n++)
            {
                (row[n], column[n]) = (row[0], column[0]);
            }

            Score(row, column, keys, keyTile);
        }

        int total = 0;
        for (int r = 0; r < rows; r++)
        {
            for (ulong candidates = Contributing[r]; candidates != 0; candidates &= candidates - 1)
            {
                int c = BitOperations.TrailingZeroCount(candidates);
                if (Scores.Row(r)[c] <= tau[r])
                {
                    Contributing[r] &= ~(1ul << c);
                }
            }

            int count = BitOperations.PopCount(Contributing[r]);
            survivors[r] += count;
            total += count;
        }

        return total;
    }

    /// <summary>Four inner products in the order of one lane of a tile product: the same bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Score(int* row, int* column, UnitKeys keys, int keyTile)
    {
        int first = keyTile * ColumnPanels.TileRows;
        float* a0 = Rows.Row(row[0]);
        float* a1 = Rows.Row(row[1]);
        float* a2 = Rows.Row(row[2]);
        float* a3 = Rows.Row(row[3]);
        float* b0 = keys.Rows.Row(first + column[0]);
        float* b1 = keys.Rows.Row(first + column[1]);
        float* b2 = keys.Rows.Row(first + column[2]);
        float* b3 = keys.Rows.Row(first + column[3]);
        float s0 = 0;
        float s1 = 0;
        float s2 = 0;
        float s3 = 0;
        for (int c = 0; c < _channels; c++)
        {
            s0 = MathF.FusedMultiplyAdd(a0[c], b0[c], s0);
            s1 = MathF.FusedMultiplyAdd(a1[c], b1[c], s1);
            s2 = MathF.FusedMultiplyAdd(a2[c], b2[c], s2);
            s3 = MathF.FusedMultiplyAdd(a3[c], b3[c], s3);
        }

        Scores.Row(row[0])[column[0]] = s0;
        Scores.Row(row[1])[column[1]] = s1;
        Scores.Row(row[2])[column[2]] = s2;
        Scores.Row(row[3])[column[3]] = s3;
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
}
