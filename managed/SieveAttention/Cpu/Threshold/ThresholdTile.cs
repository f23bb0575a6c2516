using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Scratch of one thread for one query tile: both views, thresholds, weights and the sum over keys.</summary>
internal sealed unsafe class ThresholdTile : IDisposable
{
    private readonly ThresholdView? _view2;
    private readonly WeightList _list = new();

    internal ThresholdTile(AttentionProblem problem, bool twoViews)
    {
        View1 = new ThresholdView(problem.HeadDim);
        _view2 = twoViews ? new ThresholdView(problem.HeadDim) : null;
        Sum = new PaddedRows(QueryTile.MaxRows, problem.ValueDim);
    }

    internal ThresholdView View1 { get; }

    internal ThresholdView View2 => _view2!;

    internal bool TwoViews => _view2 is not null;

    /// <summary>Weights of a tile that is multiplied as a whole.</summary>
    internal ScoreTile Weights { get; } = new();

    /// <summary>x: the sum of weighted values of each row.</summary>
    internal PaddedRows Sum { get; }

    internal float[] Tau { get; } = new float[QueryTile.MaxRows];

    internal int[] Survivors1 { get; } = new int[QueryTile.MaxRows];

    internal int[] Survivors2 { get; } = new int[QueryTile.MaxRows];

    /// <summary>Starts a query tile: unit queries, thresholds, empty sums.</summary>
    internal void Begin(in AttentionProblem problem, in QueryTile tile, HostArray<float> q1, HostArray<float>? q2, double beta, double kappa)
    {
        View1.Load(q1, tile);
        if (q2 is not null)
        {
            View2.Load(q2, tile);
        }

        for (int row = 0; row < tile.Rows; row++)
        {
            Tau[row] = RowThreshold.Tau(beta, RowThreshold.Unit(problem.Visible(tile.First + row).Count, kappa, problem.HeadDim));
        }

        Sum.Clear(tile.Rows);
        Array.Clear(Survivors1);
        Array.Clear(Survivors2);
    }

    /// <summary>Finds the survivors of a key tile in both views.</summary>
    /// <returns>Number of pairs that survive, those of both views counted twice; 0 means that the tile contributes nothing.</returns>
    internal int Find<TLanes, TVector>(TileSchedule schedule, in QueryTile tile, UnitKeys keys1, UnitKeys? keys2, int keyTile)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = View1.Find<TLanes, TVector>(schedule, tile, keys1, keyTile, Tau);
        if (count > 0)
        {
            Count(View1, tile.Rows, Survivors1);
        }

        if (keys2 is null)
        {
            return count;
        }

        int count2 = View2.Find<TLanes, TVector>(schedule, tile, keys2, keyTile, Tau);
        if (count2 > 0)
        {
            Count(View2, tile.Rows, Survivors2);
        }

        return count + count2;
    }

    /// <summary>Adds a_1 - lambda a_2 times the values of the survivors, row by row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void AddSurvivors<TLanes, TVector>(in QueryTile tile, PaddedRows values, int firstKey, ThresholdPower power, float lambda)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            ulong survivors = Either(row);
            if (survivors == 0)
            {
                continue;
            }

            _list.Clear();
            for (; survivors != 0; survivors &= survivors - 1)
            {
                int column = BitOperations.TrailingZeroCount(survivors);
                _list.Add(column, Weight(row, column, power, lambda));
            }

            SparseProduct<TLanes, TVector>.Gather(_list, values.Row(firstKey), values.Stride, values.Channels, Sum.Row(row));
        }
    }

    /// <summary>Adds the product of all weights with all values of the tile; the values must be finite.</summary>
    internal void AddTile<TLanes, TVector>(in QueryTile tile, PaddedRows values, int firstKey, int keys, ThresholdPower power, float lambda)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        FillWeights<TLanes, TVector>(tile.Rows, power, lambda);
        TileProduct<TLanes, TVector>.Multiply(
            Weights.Left, values.Right<TLanes, TVector>(firstKey), tile.Rows, keys, values.Channels, Sum.Row(0), Sum.Stride, accumulate: true);
    }

    /// <summary>Weight of one pair, of which at least one view survives.</summary>
    internal float Weight(int row, int column, ThresholdPower power, float lambda)
    {
        ulong bit = 1ul << column;
        float weight = (View1.Survivors[row] & bit) != 0 ? power.Weight(View1.Scores.Row(row)[column] - Tau[row]) : 0;
        return TwoViews && (View2.Survivors[row] & bit) != 0
            ? MathF.FusedMultiplyAdd(-lambda, power.Weight(View2.Scores.Row(row)[column] - Tau[row]), weight)
            : weight;
    }

    /// <summary>Columns that survive in a view of the row.</summary>
    internal ulong Either(int row) => View1.Survivors[row] | (TwoViews ? View2.Survivors[row] : 0);

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
            if (!power.IsProduct)
            {
                new Span<float>(weights, ScoreTile.Stride).Clear();
                for (ulong survivors = Either(row); survivors != 0; survivors &= survivors - 1)
                {
                    int column = BitOperations.TrailingZeroCount(survivors);
                    weights[column] = Weight(row, column, power, lambda);
                }

                continue;
            }

            TVector tau = TLanes.Broadcast(Tau[row]);
            float* scores1 = View1.Scores.Row(row);
            float* scores2 = TwoViews ? View2.Scores.Row(row) : null;
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
        return TLanes.WhereGreater(score, tau, power.Weight<TLanes, TVector>(TLanes.Subtract(score, tau)));
    }

    private static void Count(ThresholdView view, int rows, int[] counts)
    {
        for (int row = 0; row < rows; row++)
        {
            counts[row] += BitOperations.PopCount(view.Survivors[row]);
        }
    }

    public void Dispose()
    {
        View1.Dispose();
        _view2?.Dispose();
        Weights.Dispose();
        Sum.Dispose();
        _list.Dispose();
    }
}
