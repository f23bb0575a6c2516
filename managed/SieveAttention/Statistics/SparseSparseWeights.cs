using System.Numerics.Tensors;
using SieveAttention.Reference;

namespace SieveAttention;

/// <summary>The weights of the sparse stream of sparse sparse attention, and what each row loses against the full stream.</summary>
internal sealed class SparseSparseWeights : RowFunctionWeights
{
    private readonly ScoreRows _scores;
    private readonly BlockLists _blocks;
    private readonly HostArray<double> _values;
    private readonly double[] _valueNorms;

    internal SparseSparseWeights(ScoreRows scores, BlockLists blocks, HostArray<double> values)
        : base(scores, () => new SelectedSoftmaxRow(scores.Problem, blocks), countsSupport: true)
    {
        _scores = scores;
        _blocks = blocks;
        _values = values;
        _valueNorms = new double[values.Data.Length / values.Shape.Channels];
        for (int row = 0; row < _valueNorms.Length; row++)
        {
            _valueNorms[row] = TensorPrimitives.Norm<double>(values.Data.AsSpan(row * values.Shape.Channels, values.Shape.Channels));
        }
    }

    /// <inheritdoc/>
    /// <remarks>
    /// Theorem 1: |o_f - o_s| &lt;= delta (max over dropped j of |v_j| + |o_s|), delta = full weights of the dropped keys.
    /// </remarks>
    internal override SelectionLoss? Loss(int batch, int head, int row)
    {
        RowPlace place = new(batch, head, row, Problem.Visible(row));
        int keyHead = Problem.KeyHead(head);
        double[] scores = new double[place.Visible.Count];
        double[] full = new double[scores.Length];
        double[] sparse = new double[Keys];
        _scores.Read(place, scores);
        SoftmaxRow.Weigh(scores, full);
        Row(batch, head, row, sparse);
        bool[] selected = new bool[scores.Length];
        foreach (int block in _blocks.Used(batch, keyHead, row))
        {
            KeyRange keys = _blocks.Keys(row, block);
            selected.AsSpan(keys.First, keys.Count).Fill(true);
        }

        double dropped = 0;
        double largest = 0;
        double[] output = new double[Problem.ValueDim];
        for (int key = 0; key < selected.Length; key++)
        {
            if (selected[key])
            {
                TensorPrimitives.MultiplyAdd(_values.Row(batch, keyHead, key), sparse[key], output, output);
            }
            else
            {
                dropped += full[key];
                largest = Math.Max(largest, _valueNorms[(((batch * Problem.KeyHeads) + keyHead) * Keys) + key]);
            }
        }

        return new SelectionLoss(dropped, dropped * (largest + TensorPrimitives.Norm<double>(output)));
    }
}
