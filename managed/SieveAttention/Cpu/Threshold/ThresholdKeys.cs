using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Keys of both views and values of one key head.</summary>
internal sealed record ThresholdHead(UnitKeys View1, UnitKeys? View2, HeadValues Values)
{
    /// <summary>Whether 0 may be multiplied with everything in a key tile.</summary>
    internal bool IsFinite(int keyTile) => View1.IsFinite(keyTile) && View2?.IsFinite(keyTile) != false && Values.IsFinite(keyTile);
}

/// <summary>Everything that the query tiles read, packed once for each key head; memory of the size of the inputs.</summary>
internal sealed class ThresholdKeys : IDisposable
{
    private readonly FloatArena _arena = new(FloatArena.Large);
    private readonly int _keyHeads;
    private readonly ThresholdHead[] _heads;

    /// <param name="call">The call.</param>
    /// <param name="panelColumns">Columns of a panel of the vector width in use.</param>
    /// <param name="backward">Whether values are needed as columns, too.</param>
    internal ThresholdKeys(ThresholdCall call, int panelColumns, bool backward)
    {
        AttentionProblem problem = call.Problem;
        ThresholdInputs inputs = call.Inputs;
        _keyHeads = problem.KeyHeads;
        _heads = new ThresholdHead[problem.Batch * problem.KeyHeads];
        for (int head = 0; head < _heads.Length; head++)
        {
            _heads[head] = new ThresholdHead(
                new UnitKeys(_arena, problem.Keys, problem.HeadDim, panelColumns, call.Screens),
                inputs.TwoViews ? new UnitKeys(_arena, problem.Keys, problem.HeadDim, panelColumns, call.Screens) : null,
                new HeadValues(_arena, problem.Keys, problem.ValueDim, panelColumns, backward));
        }

        call.Schedule.ForEachKeyTile(call.Execution, (batch, keyHead, keyTile) =>
        {
            ThresholdHead head = this[batch, keyHead];
            int rows = call.Schedule.KeysInTile(keyTile);
            head.View1.Fill(inputs.Key1.Head(batch, keyHead), keyTile, rows);
            head.View2?.Fill(inputs.Key2!.Head(batch, keyHead), keyTile, rows);
            head.Values.Fill(inputs.Value.Head(batch, keyHead), keyTile, rows);
        });
    }

    internal ThresholdHead this[int batch, int keyHead] => _heads[(batch * _keyHeads) + keyHead];

    public void Dispose() => _arena.Dispose();
}
