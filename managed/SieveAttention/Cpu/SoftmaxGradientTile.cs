using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Rows;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// Scratch of one thread for the backward pass of one query tile of softmax. With w_ij = exp(s_ij - lse_i) and delta_i = dx_i . x_i:
/// dv_j += w_ij dx_i;  ds_ij = w_ij (dx_i . v_j - delta_i);  dq_i += scale g_i ds_ij k_j;  dk_j += ds_ij (scale g_i q_i).
/// </summary>
internal sealed unsafe class SoftmaxGradientTile(AttentionProblem problem, ScoreTerms<float> terms, TileSchedule schedule, FloatArena arena)
{
    private readonly PaddedRows _dx = new(arena, QueryTile.MaxRows, problem.ValueDim);
    private readonly ScoreTile _weights = new(arena);
    private readonly ScoreTile _gradients = new(arena);
    private readonly TileWeights _products = new(arena);
    private readonly float[] _lse = new float[QueryTile.MaxRows];
    private readonly float[] _delta = new float[QueryTile.MaxRows];
    private bool _finite;

    internal ScoredQueries Queries { get; } = new(problem, terms, arena);

    /// <summary>Sum over j of ds_ij k_j of each row.</summary>
    internal PaddedRows QuerySums { get; } = new(arena, QueryTile.MaxRows, problem.HeadDim);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Begin(in QueryTile tile, HostArray<float> q, HostArray<float> x, ReadOnlySpan<float> lse, HostArray<float> dx)
    {
        Queries.Load(q, tile);
        QuerySums.Clear(tile.Rows);
        _finite = true;
        for (int row = 0; row < tile.Rows; row++)
        {
            ReadOnlySpan<float> gradient = dx.Row(tile.Batch, tile.Head, tile.First + row);
            gradient.CopyTo(_dx.Span(row));
            _dx.ClearPadding(row);
            _finite &= RowMath.IsFinite(gradient);
            _delta[row] = RowMath.Chain(gradient, x.Row(tile.Batch, tile.Head, tile.First + row));
            // A row without a visible key: every weight is masked, but -infinity less -infinity would be NaN on the way.
            _lse[row] = float.IsNegativeInfinity(lse[row]) ? 0 : lse[row];
        }
    }

    /// <summary>Adds the gradients of one key tile.</summary>
    internal void Add<TLanes, TVector>(in QueryTile tile, HeadValues keys, HeadValues values, int keyTile, KeyValueSums sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        int count = schedule.KeysInTile(keyTile);
        int firstKey = keyTile * ColumnPanels.TileRows;
        Queries.Score<TLanes, TVector>(tile, keys.Columns!, keyTile, count, _weights.Data, ScoreTile.Stride);
        Weigh<TLanes, TVector>(tile.Rows);
        _weights.Mask(schedule, tile, keyTile, 0);
        TileProduct<TLanes, TVector>.Multiply(
            _dx.Left(0), values.Columns!.Tile(keyTile), tile.Rows, _dx.Channels, count,
            _gradients.Data, ScoreTile.Stride, accumulate: false);
        Differentiate<TLanes, TVector>(tile.Rows);
        _products.Find<TLanes, TVector>(_weights.Data, ScoreTile.Stride, tile.Rows, count);
        _products.AddColumns<TLanes, TVector>(_dx, _finite, sums.Value, firstKey - sums.Keys.First);
        _products.Find<TLanes, TVector>(_gradients.Data, ScoreTile.Stride, tile.Rows, count);
        _products.AddRows<TLanes, TVector>(keys.Rows, firstKey, keys.IsFinite(keyTile), QuerySums);
        _products.AddColumns<TLanes, TVector>(Queries.Rows, Queries.Finite, sums.Key, firstKey - sums.Keys.First);
    }

    /// <summary>Scores to weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Weigh<TLanes, TVector>(int rows)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            TVector lse = TLanes.Broadcast(_lse[row]);
            float* line = _weights.Row(row);
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TLanes.Store(line + c, LaneMath<TLanes, TVector>.Exp(TLanes.Subtract(TLanes.Load(line + c), lse)));
            }
        }
    }

    /// <summary>Gradients of weights to those of scores; 0 where the weight is 0, whatever the value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Differentiate<TLanes, TVector>(int rows)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        for (int row = 0; row < rows; row++)
        {
            TVector delta = TLanes.Broadcast(_delta[row]);
            float* weights = _weights.Row(row);
            float* gradients = _gradients.Row(row);
            for (int c = 0; c < ScoreTile.Stride; c += TLanes.Count)
            {
                TVector weight = TLanes.Load(weights + c);
                TVector ds = TLanes.Multiply(weight, TLanes.Subtract(TLanes.Load(gradients + c), delta));
                TLanes.Store(gradients + c, TLanes.WhereNotAtMost(weight, default, ds));
            }
        }
    }
}
