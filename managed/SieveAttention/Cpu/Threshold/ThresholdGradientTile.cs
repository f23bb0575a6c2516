using System.Numerics;
using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Scratch of one thread for the backward pass of one query tile. With G_ij = dx_i . v_j, e_t the exceedance of view t, and w the weight:
/// dv_j += w dx_i;  ds_1 = p e_1^(p-1) G;  ds_2 = -lambda p e_2^(p-1) G;  dqn_i += ds kn_j;  dkn_j += ds qn_i;  dtau_i -= ds_1 + ds_2;
/// dlambda -= e_2^p G.
/// </summary>
internal sealed unsafe class ThresholdGradientTile(ThresholdCall call, FloatArena arena)
{
    private readonly ScoreTile _g = new(arena);
    private readonly ScoreTile _slopes = new(arena);

    /// <summary>The forward pass of the tile.</summary>
    internal ThresholdTile Forward { get; } = new(call, arena);

    internal SurvivorLog Log { get; } = new();

    /// <summary>Gradient of the row before the epilogue.</summary>
    internal PaddedRows Dx { get; } = new(arena, QueryTile.MaxRows, call.Problem.ValueDim);

    /// <summary>Gradient of the unit queries of view 1.</summary>
    internal PaddedRows Query1 { get; } = new(arena, QueryTile.MaxRows, call.Problem.HeadDim);

    /// <summary>Gradient of the unit queries of view 2.</summary>
    internal PaddedRows Query2 { get; } = new(arena, QueryTile.MaxRows, call.Problem.HeadDim);

    internal double[] Dtau { get; } = new double[QueryTile.MaxRows];

    internal double Dlambda { get; private set; }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Begin(int rows)
    {
        Log.Clear();
        Dx.Clear(rows);
        Query1.Clear(rows);
        Query2.Clear(rows);
        Array.Clear(Dtau);
        Dlambda = 0;
    }

    /// <summary>Adds the gradients of a few survivors of a key tile.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void AddSurvivors<TLanes, TVector>(
        ReadOnlySpan<Survivor> survivors, in QueryTile tile, int keyTile, ThresholdHead head, KeyGradients sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        PaddedRows values = head.Values.Rows;
        ThresholdPower power = call.Power;
        float lambda = call.Lambda(tile.Head);
        foreach (Survivor survivor in survivors)
        {
            int row = survivor.Row;
            int key = (keyTile * ColumnPanels.TileRows) + survivor.Column;
            float g = SparseProduct<TLanes, TVector>.Dot(Dx.Row(row), values.Row(key), values.Channels);
            if (survivor.Exceedance1 != 0)
            {
                float ds = power.Slope(survivor.Exceedance1) * g;
                AddView<TLanes, TVector>(ds, row, key, Forward.View1, head.View1, Query1, sums.Key1);
            }

            if (survivor.Exceedance2 != 0)
            {
                float ds = -lambda * power.Slope(survivor.Exceedance2) * g;
                AddView<TLanes, TVector>(ds, row, key, Forward.View2, head.View2!, Query2, sums.Key2!);
                Dlambda -= (double)power.Weight(survivor.Exceedance2) * g;
            }

            float weight = survivor.Weight(power, lambda);
            if (weight != 0)
            {
                SparseProduct<TLanes, TVector>.AddScaled(weight, Dx.Row(row), values.Channels, sums.Value.Row(key));
            }
        }
    }

    /// <summary>
    /// Adds the gradients of a key tile whose survivors <see cref="Forward"/> holds, where products with 0 could give NaN.
    /// </summary>
    internal void AddTileOneByOne<TLanes, TVector>(in QueryTile tile, int keyTile, ThresholdHead head, KeyGradients sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < tile.Rows; row++)
        {
            for (ulong columns = Forward.Contributing(row); columns != 0; columns &= columns - 1)
            {
                Survivor survivor = Forward.At(row, BitOperations.TrailingZeroCount(columns));
                AddSurvivors<TLanes, TVector>(new ReadOnlySpan<Survivor>(in survivor), tile, keyTile, head, sums);
            }
        }
    }

    /// <summary>Adds the gradients of a whole key tile, whose scores <see cref="Forward"/> holds; everything must be finite.</summary>
    internal void AddTile<TLanes, TVector>(in QueryTile tile, int keyTile, ThresholdHead head, KeyGradients sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int rows = tile.Rows;
        int firstKey = keyTile * ColumnPanels.TileRows;
        int keys = call.Schedule.KeysInTile(keyTile);
        float lambda = call.Lambda(tile.Head);
        Forward.FillWeights<TLanes, TVector>(rows, call.Power, lambda);
        TileProduct<TLanes, TVector>.Multiply(
            Forward.Weights.Left.Transposed, Dx.Right<TLanes, TVector>(0), keys, rows, Dx.Channels,
            sums.Value.Row(firstKey), sums.Value.Stride, accumulate: true);
        TileProduct<TLanes, TVector>.Multiply(
            Dx.Left(0), head.Values.Columns!.Tile(keyTile), rows, Dx.Channels, keys, _g.Data, ScoreTile.Stride, accumulate: false);
        AddTileView<TLanes, TVector>(Forward.View1, 1, rows, firstKey, keys, head.View1, Query1, sums.Key1);
        if (head.View2 is not null)
        {
            Dlambda -= Weigh<TLanes, TVector>(Forward.View2, rows);
            AddTileView<TLanes, TVector>(Forward.View2, -lambda, rows, firstKey, keys, head.View2, Query2, sums.Key2!);
        }
    }

    private void AddView<TLanes, TVector>(
        float ds, int row, int key, ThresholdView view, UnitKeys keys, PaddedRows dquery, PaddedRows dkey)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        SparseProduct<TLanes, TVector>.AddScaled(ds, keys.Rows.Row(key), dquery.Channels, dquery.Row(row));
        SparseProduct<TLanes, TVector>.AddScaled(ds, view.Rows.Row(row), dquery.Channels, dkey.Row(key));
        Dtau[row] -= ds;
    }

    private void AddTileView<TLanes, TVector>(
        ThresholdView view, float sigma, int rows, int firstKey, int keysInTile, UnitKeys keys, PaddedRows dquery, PaddedRows dkey)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        FillSlopes<TLanes, TVector>(view, sigma, rows);
        TileProduct<TLanes, TVector>.Multiply(
            _slopes.Left, keys.Rows.Right<TLanes, TVector>(firstKey), rows, keysInTile, dquery.Channels,
            dquery.Row(0), dquery.Stride, accumulate: true);
        TileProduct<TLanes, TVector>.Multiply(
            _slopes.Left.Transposed, view.Rows.Right<TLanes, TVector>(0), keysInTile, rows, dkey.Channels,
            dkey.Row(firstKey), dkey.Stride, accumulate: true);
    }

    /// <summary>ds = sigma p e^(p-1) G of every pair, 0 where the view does not survive; subtracts the row sums from dtau.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void FillSlopes<TLanes, TVector>(ThresholdView view, float sigma, int rows)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        ThresholdPower power = call.Power;
        TVector factor = TLanes.Broadcast(sigma);
        for (int row = 0; row < rows; row++)
        {
            TVector tau = TLanes.Broadcast(Forward.Tau[row]);
            float* scores = view.Scores.Row(row);
            float* g = _g.Row(row);
            float* slopes = _slopes.Row(row);
            TVector sum = default;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector score = TLanes.Load(scores + c);
                TVector slope = TLanes.Multiply(factor, power.Slope<TLanes, TVector>(TLanes.Subtract(score, tau)));
                TVector ds = TLanes.WhereNotAtMost(score, tau, TLanes.Multiply(slope, TLanes.Load(g + c)));
                TLanes.Store(slopes + c, ds);
                sum = TLanes.Add(sum, ds);
            }

            Dtau[row] -= TLanes.Sum(sum);
        }
    }

    /// <summary>Sum of e^p G over the survivors of a view.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double Weigh<TLanes, TVector>(ThresholdView view, int rows)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        ThresholdPower power = call.Power;
        double total = 0;
        for (int row = 0; row < rows; row++)
        {
            TVector tau = TLanes.Broadcast(Forward.Tau[row]);
            float* scores = view.Scores.Row(row);
            float* g = _g.Row(row);
            TVector sum = default;
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector score = TLanes.Load(scores + c);
                TVector weight = power.Weight<TLanes, TVector>(TLanes.Subtract(score, tau));
                sum = TLanes.Add(sum, TLanes.WhereNotAtMost(score, tau, TLanes.Multiply(weight, TLanes.Load(g + c))));
            }

            total += TLanes.Sum(sum);
        }

        return total;
    }
}
