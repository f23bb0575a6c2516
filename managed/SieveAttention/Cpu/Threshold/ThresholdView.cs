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
    private readonly PaddedRows _candidateRows = new(arena, QueryTile.MaxRows, call.Problem.HeadDim);
    private readonly ScoreTile _candidateScores = new(arena);
    private readonly int[] _candidates = new int[QueryTile.MaxRows];
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
    /// those of one chain of fused steps a pair, whether all are computed or only those of rows with a candidate.
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
            (int candidateRows, int candidates) = Screen<TLanes, TVector>(tile, keys.Screen!, keyTile, tau);
            if (candidates == 0)
            {
                return 0;
            }

            Complete = candidateRows > call.MaxCandidateRows || call.IsDense(candidates, tile.Rows, call.Schedule.KeysInTile(keyTile));
            if (!Complete)
            {
                return Decide<TLanes, TVector>(candidateRows, keys, keyTile, tau, survivors);
            }
        }

        TileProduct<TLanes, TVector>.Multiply(
            Rows.Left(0), keys.Columns(keyTile), tile.Rows, _channels, call.Schedule.KeysInTile(keyTile),
            Scores.Data, ScoreTile.Stride, accumulate: false);
        Scores.Mask(call.Schedule, tile, keyTile);
        (int rows, int count) = Mark<TLanes, TVector>(tile.Rows, tau);
        if (count > 0)
        {
            Count<TLanes, TVector>(tile.Rows, tau, survivors);
        }

        // Neighbouring tiles are alike: screening resumes where it would have left few enough rows.
        _screenNext = Finite && call.Screens && 2 * rows <= call.MaxCandidateRows;
        return count;
    }

    /// <summary>Marks in <see cref="Contributing"/> the pairs that byte products cannot rule out.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private (int Rows, int Candidates) Screen<TLanes, TVector>(in QueryTile tile, ScreenedKeys keys, int keyTile, ReadOnlySpan<float> tau)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        keys.Bounds(keyTile, tau, _inverseSteps, _errors, _bounds);
        ByteScreen<TLanes, TVector>.Run(
            _bytes, keys.Columns(keyTile), keys.Corrections(keyTile), tile.Rows, call.Schedule.KeysInTile(keyTile), _bounds, Contributing);
        bool whole = call.Schedule.SeesWholeTile(tile, keyTile);
        int rows = 0;
        int count = 0;
        for (int row = 0; row < tile.Rows; row++)
        {
            ulong bits = Contributing[row];
            bits = whole || bits == 0 ? bits : bits & call.Schedule.VisibleBits(tile.First + row, keyTile);
            Contributing[row] = bits;
            if (bits != 0)
            {
                _candidates[rows++] = row;
                count += BitOperations.PopCount(bits);
            }
        }

        return (rows, count);
    }

    /// <summary>
    /// Scores the rows that have candidates and keeps those above the threshold. Candidates come in few rows and, there, many at once: on
    /// trained input a tile that has any has 6 rows with 14 each.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Decide<TLanes, TVector>(int candidateRows, UnitKeys keys, int keyTile, ReadOnlySpan<float> tau, Span<int> survivors)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int width = (int)_candidateRows.Stride;
        for (int n = 0; n < candidateRows; n++)
        {
            new Span<float>(Rows.Row(_candidates[n]), width).CopyTo(new Span<float>(_candidateRows.Row(n), width));
        }

        TileProduct<TLanes, TVector>.Multiply(
            _candidateRows.Left(0), keys.Columns(keyTile), candidateRows, _channels, call.Schedule.KeysInTile(keyTile),
            _candidateScores.Data, ScoreTile.Stride, accumulate: false);
        int total = 0;
        for (int n = 0; n < candidateRows; n++)
        {
            int row = _candidates[n];
            float* scores = _candidateScores.Row(n);
            TVector threshold = TLanes.Broadcast(tau[row]);
            ulong above = 0;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector score = TLanes.Load(scores + c);
                TLanes.Store(Scores.Row(row) + c, score);
                above |= TLanes.GreaterThan(score, threshold) << c;
            }

            Contributing[row] &= above;
            int count = BitOperations.PopCount(Contributing[row]);
            survivors[row] += count;
            total += count;
        }

        return total;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private (int Rows, int Pairs) Mark<TLanes, TVector>(int rows, ReadOnlySpan<float> tau)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int marked = 0;
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
            marked += bits == 0 ? 0 : 1;
            count += BitOperations.PopCount(bits);
        }

        return (marked, count);
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
