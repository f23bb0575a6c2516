using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Rows;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// Scratch of one thread for one query tile of softmax: for each row the largest score so far m, the sum of weights l and the sum of
/// weighted values, both relative to exp(m). When a key tile raises m, both sums are multiplied by exp(old m - new m).
/// </summary>
internal sealed unsafe class SoftmaxTile(AttentionProblem problem, ScoreTerms<float> terms, FloatArena arena)
{
    private readonly ScoredQueries _queries = new(problem, terms, arena);
    private readonly ScoreTile _scores = new(arena);
    private readonly WeightList _list = new(arena);
    private readonly float[] _largest = new float[QueryTile.MaxRows];
    private readonly float[] _total = new float[QueryTile.MaxRows];

    /// <summary>Sum of weighted values of each row.</summary>
    internal PaddedRows Sum { get; } = new(arena, QueryTile.MaxRows, problem.ValueDim);

    /// <summary>Starts a query tile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Begin(HostArray<float> q, in QueryTile tile)
    {
        _queries.Load(q, tile);
        _largest.AsSpan().Fill(float.NegativeInfinity);
        _total.AsSpan().Clear();
        Sum.Clear(tile.Rows);
    }

    /// <summary>Adds one key tile.</summary>
    internal void Add<TLanes, TVector>(TileSchedule schedule, in QueryTile tile, ColumnPanels keys, HeadValues values, int keyTile)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = schedule.KeysInTile(keyTile);
        int firstKey = keyTile * ColumnPanels.TileRows;
        _queries.Score<TLanes, TVector>(tile, keys, keyTile, count, _scores.Data, ScoreTile.Stride);
        _scores.Mask(schedule, tile, keyTile);
        Weigh<TLanes, TVector>(tile.Rows);
        if (values.IsFinite(keyTile))
        {
            TileProduct<TLanes, TVector>.Multiply(
                _scores.Left, values.Rows.Right<TLanes, TVector>(firstKey), tile.Rows, count, Sum.Channels,
                Sum.Row(0), Sum.Stride, accumulate: true);
        }
        else
        {
            AddOneByOne<TLanes, TVector>(tile.Rows, values.Rows, firstKey, count);
        }
    }

    /// <summary>Divides the sum of a row by its weights.</summary>
    /// <returns>The logarithm of the sum of weights.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal float Finish(int row)
    {
        if (_total[row] == 0)
        {
            return float.NegativeInfinity;
        }

        RowMath.Scale(Sum.Span(row), 1 / _total[row], Sum.Span(row));
        return _largest[row] + MathF.Log(_total[row]);
    }

    /// <summary>Scores to weights relative to the largest score so far.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Weigh<TLanes, TVector>(int rows)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            float* scores = _scores.Row(row);
            TVector highest = TLanes.Load(scores);
            for (int c = TLanes.Count; c < ScoreTile.Stride; c += TLanes.Count)
            {
                highest = TLanes.Max(highest, TLanes.Load(scores + c));
            }

            float largest = MathF.Max(TLanes.Largest(highest), _largest[row]);
            if (float.IsNegativeInfinity(largest))
            {
                new Span<float>(scores, ScoreTile.Stride).Clear();
                continue;
            }

            TVector shift = TLanes.Broadcast(largest);
            TVector total = default;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector weight = LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(scores + c), shift));
                TLanes.Store(scores + c, weight);
                total = TLanes.Add(total, weight);
            }

            if (largest != _largest[row])
            {
                Rescale<TLanes, TVector>(row, MathF.Exp(_largest[row] - largest));
                _largest[row] = largest;
            }

            _total[row] += TLanes.Sum(total);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Rescale<TLanes, TVector>(int row, float factor)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        _total[row] *= factor;
        float* sum = Sum.Row(row);
        for (int c = 0; c < Sum.Channels; c += TLanes.Count)
        {
            TLanes.Store(sum + c, TLanes.Multiply(TLanes.Load(sum + c), TLanes.Broadcast(factor)));
        }
    }

    /// <summary>Leaves out keys of weight 0, which include the masked ones: their values may be NaN or infinite.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddOneByOne<TLanes, TVector>(int rows, PaddedRows values, int firstKey, int count)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            _list.Clear();
            for (int column = 0; column < count; column++)
            {
                if (_scores.Row(row)[column] != 0)
                {
                    _list.Add(column, _scores.Row(row)[column]);
                }
            }

            SparseProduct<TLanes, TVector>.Gather(_list, values.Row(firstKey), values.Stride, values.Channels, Sum.Row(row));
        }
    }
}
