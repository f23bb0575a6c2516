using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// The backward pass of threshold differential attention. Each task finds the survivors of its query tiles again, takes the gradient
/// through the epilogue, and adds to the gradients of its queries and to its own arrays of key and value gradients; those are added up at
/// the end.
/// </summary>
internal sealed class ThresholdBackward(ThresholdCall call, HostArray<float> dout) : ILaneWork
{
    private readonly QueryChunks _chunks = new(call.Problem, call.Schedule, call.Execution.Threads);
    private readonly ThresholdScalarGradients _scalars = new(call);
    private readonly HostArray<float> _dq1 = new(call.Problem.QueryShape);
    private readonly HostArray<float> _dk1 = new(call.Problem.KeyShape);
    private readonly HostArray<float>? _dq2 = call.Inputs.TwoViews ? new(call.Problem.QueryShape) : null;
    private readonly HostArray<float>? _dk2 = call.Inputs.TwoViews ? new(call.Problem.KeyShape) : null;
    private readonly HostArray<float> _dv = new(call.Problem.ValueShape);
    private readonly HostArray<float>? _dgate = call.Epilogue.HasGate ? new(call.Problem.RowShape) : null;

    internal ThresholdDifferentialBackward<float> Result => new(
        _dq1, _dk1, _dq2, _dk2, _dv, _scalars.NormGain(), _dgate, _scalars.Beta(), _scalars.Kappa(), _scalars.Lambda());

    public void Run<TLanes, TVector>()
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        using ThresholdKeys keys = new(call, MicroKernel<TLanes, TVector>.MaxColumns, backward: true);
        int heads = call.Problem.Batch * call.Problem.KeyHeads;
        KeyGradients?[] partial = new KeyGradients?[heads * _chunks.ChunksPerHead];
        try
        {
            Workers.Run(call.Execution, partial.Length, arena => new ThresholdGradientTile(call, arena), (task, scratch) =>
            {
                (int head, int chunk) = Math.DivRem((int)task, _chunks.ChunksPerHead);
                (int batch, int keyHead) = Math.DivRem(head, call.Problem.KeyHeads);
                KeyGradients sums = partial[task] = new KeyGradients(call);
                foreach (QueryTile tile in _chunks.Tiles(batch, keyHead, chunk))
                {
                    Differentiate<TLanes, TVector>(tile, scratch, keys[batch, keyHead], sums);
                }
            });
            call.Schedule.ForEachKeyTile(
                call.Execution, (batch, keyHead, keyTile) => Collect(batch, keyHead, keyTile, keys[batch, keyHead], partial!));
        }
        finally
        {
            foreach (KeyGradients? sums in partial)
            {
                sums?.Dispose();
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Differentiate<TLanes, TVector>(in QueryTile tile, ThresholdGradientTile scratch, ThresholdHead head, KeyGradients sums)
        where TLanes : struct, ILanes<TVector>
        where TVector : struct
    {
        scratch.Begin(tile.Rows);
        scratch.Forward.Attend<TLanes, TVector>(call, head, tile, scratch.Log);
        bool finiteRows = PassEpilogue(tile, scratch);
        foreach ((int keyTile, int start, int count) in scratch.Log.Tiles)
        {
            if (count >= 0)
            {
                scratch.AddSurvivors<TLanes, TVector>(scratch.Log.Slice(start, count), tile, keyTile, head, sums);
                continue;
            }

            scratch.Forward.Find<TLanes, TVector>(head, tile, keyTile, complete: true);
            if (finiteRows && head.IsFinite(keyTile))
            {
                scratch.AddTile<TLanes, TVector>(tile, keyTile, head, sums);
            }
            else
            {
                scratch.AddTileOneByOne<TLanes, TVector>(tile, keyTile, head, sums);
            }
        }

        Finish(tile, scratch);
    }

    /// <summary>Gradients of the sums from those of the outputs.</summary>
    /// <returns>Whether 0 may be multiplied with all gradients and unit queries of the tile.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private bool PassEpilogue(in QueryTile tile, ThresholdGradientTile scratch)
    {
        bool finite = true;
        long index = call.Schedule.IndexOf(tile);
        for (int row = 0; row < tile.Rows; row++)
        {
            int queryRow = tile.First + row;
            double dgate = call.Epilogue.Backward(
                scratch.Forward.Sum.Span(row), dout.Row(tile.Batch, tile.Head, queryRow), tile.Batch, tile.Head, queryRow,
                scratch.Dx.Span(row), _scalars.NormGain(index));
            if (_dgate is not null)
            {
                _dgate.Row(tile.Batch, tile.Head, queryRow)[0] = (float)dgate;
            }

            finite &= RowMath.IsFinite(scratch.Dx.Span(row));
        }

        return finite && scratch.Forward.View1.Finite && (!call.Inputs.TwoViews || scratch.Forward.View2.Finite);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Finish(in QueryTile tile, ThresholdGradientTile scratch)
    {
        double beta = 0;
        double kappa = 0;
        for (int row = 0; row < tile.Rows; row++)
        {
            int queryRow = tile.First + row;
            double unit = call.UnitThreshold(queryRow);
            beta += scratch.Dtau[row] * unit;
            kappa += scratch.Dtau[row] * RowThreshold.SlopeByKappa(call.Beta(tile.Head), unit, call.Kappa, call.Problem.HeadDim);
            ThresholdView view1 = scratch.Forward.View1;
            UnitRow.Backward(
                view1.Rows.Span(row), view1.InverseNorms[row], scratch.Query1.Span(row), _dq1.Row(tile.Batch, tile.Head, queryRow));
            if (_dq2 is not null)
            {
                ThresholdView view2 = scratch.Forward.View2;
                UnitRow.Backward(
                    view2.Rows.Span(row), view2.InverseNorms[row], scratch.Query2.Span(row), _dq2.Row(tile.Batch, tile.Head, queryRow));
            }
        }

        _scalars.Set(call.Schedule.IndexOf(tile), beta, kappa, scratch.Dlambda);
    }

    /// <summary>Adds the chunks of one key tile, in their order, and takes the gradients of unit keys to those of keys.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Collect(int batch, int keyHead, int keyTile, ThresholdHead packed, KeyGradients[] partial)
    {
        int firstChunk = ((batch * call.Problem.KeyHeads) + keyHead) * _chunks.ChunksPerHead;
        ReadOnlySpan<KeyGradients> chunks = partial.AsSpan(firstChunk, _chunks.ChunksPerHead);
        KeyGradients total = chunks[0];
        int first = keyTile * ColumnPanels.TileRows;
        for (int key = first; key < first + call.Schedule.KeysInTile(keyTile); key++)
        {
            foreach (KeyGradients chunk in chunks[1..])
            {
                RowMath.Add(chunk.Key1.Span(key), total.Key1.Span(key));
                RowMath.Add(chunk.Value.Span(key), total.Value.Span(key));
                if (total.Key2 is not null)
                {
                    RowMath.Add(chunk.Key2!.Span(key), total.Key2.Span(key));
                }
            }

            total.Value.Span(key).CopyTo(_dv.Row(batch, keyHead, key));
            UnitRow.Backward(
                packed.View1.Rows.Span(key), packed.View1.InverseNorms[key], total.Key1.Span(key), _dk1.Row(batch, keyHead, key));
            if (_dk2 is not null)
            {
                UnitRow.Backward(
                    packed.View2!.Rows.Span(key), packed.View2.InverseNorms[key], total.Key2!.Span(key), _dk2.Row(batch, keyHead, key));
            }
        }
    }
}
