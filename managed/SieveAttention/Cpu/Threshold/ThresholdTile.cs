using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Scratch of one thread for one query tile: both views, thresholds, weights and the sum over keys.</summary>
internal sealed unsafe class ThresholdTile
{
    private readonly ThresholdView? _view2;
    private readonly WeightList _list;

    internal ThresholdTile(ThresholdCall call, FloatArena arena)
    {
        _list = new WeightList(arena);
        Weights = new ScoreTile(arena);
        View1 = new ThresholdView(call, arena);
        _view2 = call.Inputs.TwoViews ? new ThresholdView(call, arena) : null;
        Sum = new PaddedRows(arena, QueryTile.MaxRows, call.Problem.ValueDim);
    }

    internal ThresholdView View1 { get; }

    internal ThresholdView View2 => _view2!;

    internal bool TwoViews => _view2 is not null;

    /// <summary>Weights of a tile that is multiplied as a whole.</summary>
    internal ScoreTile Weights { get; }

    /// <summary>x: the sum of weighted values of each row.</summary>
    internal PaddedRows Sum { get; }

    internal float[] Tau { get; } = new float[QueryTile.MaxRows];

    internal int[] Survivors1 { get; } = new int[QueryTile.MaxRows];

    internal int[] Survivors2 { get; } = new int[QueryTile.MaxRows];

    /// <summary>Sums the weighted values of every key tile, in ascending order, that has a survivor.</summary>
    /// <param name="call">The call.</param>
    /// <param name="head">Keys and values of the tile's head.</param>
    /// <param name="tile">The query tile.</param>
    /// <param name="log">Receives the survivors; null = nobody needs them again.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Attend<TLanes, TVector>(ThresholdCall call, ThresholdHead head, in QueryTile tile, SurvivorLog? log)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        Begin(call, tile);
        float lambda = call.Lambda(tile.Head);
        for (int keyTile = tile.FirstKeyTile; keyTile < tile.EndKeyTile; keyTile++)
        {
            int survivors = Find<TLanes, TVector>(head, tile, keyTile, complete: false);
            if (survivors == 0)
            {
                continue;
            }

            int firstKey = keyTile * ColumnPanels.TileRows;
            int keys = call.Schedule.KeysInTile(keyTile);
            bool dense = View1.Complete && (head.View2 is null || View2.Complete) && call.IsDense(survivors, tile.Rows, keys);
            if (dense && head.Values.IsFinite(keyTile))
            {
                AddTile<TLanes, TVector>(tile.Rows, head.Values.Rows, firstKey, keys, call.Power, lambda);
            }
            else
            {
                AddSurvivors<TLanes, TVector>(tile.Rows, head.Values.Rows, firstKey, call.Power, lambda);
            }

            log?.Add(keyTile, dense, this, tile.Rows);
        }
    }

    /// <summary>Finds the pairs of a key tile that contribute, in both views.</summary>
    /// <param name="head">Keys and values of the tile's head.</param>
    /// <param name="tile">The query tile.</param>
    /// <param name="keyTile">The key tile.</param>
    /// <param name="complete">Whether the scores of all pairs are wanted.</param>
    /// <returns>Their number, those of both views counted twice; 0 means that the tile contributes nothing.</returns>
    internal int Find<TLanes, TVector>(ThresholdHead head, in QueryTile tile, int keyTile, bool complete)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = View1.Find<TLanes, TVector>(tile, head.View1, keyTile, Tau, Survivors1, complete);
        return head.View2 is null
            ? count
            : count + View2.Find<TLanes, TVector>(tile, head.View2, keyTile, Tau, Survivors2, complete);
    }

    /// <summary>Unit queries, thresholds, empty sums.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Begin(ThresholdCall call, in QueryTile tile)
    {
        View1.Load(call.Inputs.Query1, tile);
        if (call.Inputs.Query2 is not null)
        {
            View2.Load(call.Inputs.Query2, tile);
        }

        for (int row = 0; row < tile.Rows; row++)
        {
            Tau[row] = RowThreshold.Tau(call.Beta(tile.Head), call.UnitThreshold(tile.First + row));
        }

        Sum.Clear(tile.Rows);
        Array.Clear(Survivors1);
        Array.Clear(Survivors2);
    }

    /// <summary>Adds a_1 - lambda a_2 times the values of the survivors, row by row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddSurvivors<TLanes, TVector>(int rows, PaddedRows values, int firstKey, ThresholdPower power, float lambda)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            ulong columns = Contributing(row);
            if (columns == 0)
            {
                continue;
            }

            _list.Clear();
            for (; columns != 0; columns &= columns - 1)
            {
                int column = BitOperations.TrailingZeroCount(columns);
                float weight = At(row, column).Weight(power, lambda);
                if (weight != 0)
                {
                    _list.Add(column, weight);
                }
            }

            SparseProduct<TLanes, TVector>.Gather(_list, values.Row(firstKey), values.Stride, values.Channels, Sum.Row(row));
        }
    }

    /// <summary>Adds the product of all weights with all values of the tile; the values must be finite.</summary>
    private void AddTile<TLanes, TVector>(int rows, PaddedRows values, int firstKey, int keys, ThresholdPower power, float lambda)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        FillWeights<TLanes, TVector>(rows, power, lambda);
        TileProduct<TLanes, TVector>.Multiply(
            Weights.Left, values.Right<TLanes, TVector>(firstKey), rows, keys, values.Channels, Sum.Row(0), Sum.Stride, accumulate: true);
    }

    /// <summary>A pair that contributes in at least one view.</summary>
    internal Survivor At(int row, int column) =>
        new(row, column, Exceedance(View1, row, column), TwoViews ? Exceedance(View2, row, column) : 0);

    /// <summary>Columns of a row that contribute in at least one view.</summary>
    internal ulong Contributing(int row) => View1.Contributing[row] | (TwoViews ? View2.Contributing[row] : 0);

    /// <summary>Writes a_1 - lambda a_2 of every pair of the tile, 0 where nothing survives.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void FillWeights<TLanes, TVector>(int rows, ThresholdPower power, float lambda)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector minusLambda = TLanes.Broadcast(-lambda);
        for (int row = 0; row < rows; row++)
        {
            float* weights = Weights.Row(row);
            TVector tau = TLanes.Broadcast(Tau[row]);
            float* scores1 = View1.Scores.Row(row);
            float* scores2 = TwoViews && lambda != 0 ? View2.Scores.Row(row) : null;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector weight = Exceed<TLanes, TVector>(scores1 + c, tau, power);
                if (scores2 != null)
                {
                    weight = TLanes.MultiplyAdd(minusLambda, Exceed<TLanes, TVector>(scores2 + c, tau, power), weight);
                }

                TLanes.Store(weights + c, weight);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static TVector Exceed<TLanes, TVector>(float* scores, TVector tau, ThresholdPower power)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        TVector score = TLanes.Load(scores);
        return TLanes.WhereNotAtMost(score, tau, power.Weight<TLanes, TVector>(TLanes.Subtract(score, tau)));
    }

    private float Exceedance(ThresholdView view, int row, int column) =>
        (view.Contributing[row] & (1ul << column)) != 0 ? view.Scores.Row(row)[column] - Tau[row] : 0;
}
