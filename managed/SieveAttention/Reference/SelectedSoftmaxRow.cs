namespace SieveAttention.Reference;

/// <summary>
/// Softmax over the keys J of the selected blocks: w_j = exp(s_j - L) for j in J, else 0, with L = ln sum over J of exp(s_j);
/// ds_j = w_j (dw_j - sum over J of w dw). A row without a selected key has L = -infinity.
/// </summary>
internal sealed class SelectedSoftmaxRow : RowFunction
{
    private readonly AttentionProblem _problem;
    private readonly BlockLists _blocks;

    internal SelectedSoftmaxRow(in AttentionProblem problem, BlockLists blocks)
    {
        _problem = problem;
        _blocks = blocks;
        LogSumExp = new double[problem.RowShape.Count];
        Array.Fill(LogSumExp, double.NegativeInfinity);
    }

    /// <summary>[batch, query heads, queries].</summary>
    internal double[] LogSumExp { get; }

    internal override void Forward(in RowPlace place, ReadOnlySpan<double> s, Span<double> w)
    {
        w.Clear();
        int keyHead = _problem.KeyHead(place.Head);
        double m = double.NegativeInfinity;
        foreach (int block in _blocks.Used(place.Batch, keyHead, place.Row))
        {
            KeyRange keys = _blocks.Keys(place.Row, block);
            for (int j = keys.First; j < keys.End; j++)
            {
                m = Math.Max(m, s[j]);
            }
        }

        double sum = 0;
        foreach (int block in _blocks.Used(place.Batch, keyHead, place.Row))
        {
            KeyRange keys = _blocks.Keys(place.Row, block);
            for (int j = keys.First; j < keys.End; j++)
            {
                w[j] = Math.Exp(s[j] - m);
                sum += w[j];
            }
        }

        for (int j = 0; j < w.Length; j++)
        {
            w[j] = w[j] == 0 ? 0 : w[j] / sum;
        }

        LogSumExp[place.Index(_problem)] = m + Math.Log(sum);
    }

    internal override void Backward(
        in RowPlace place, ReadOnlySpan<double> s, ReadOnlySpan<double> w, ReadOnlySpan<double> dw, Span<double> ds)
    {
        // A weight of 0 has no gradient, whatever the value of its key holds.
        double delta = 0;
        for (int j = 0; j < w.Length; j++)
        {
            delta += w[j] == 0 ? 0 : w[j] * dw[j];
        }

        for (int j = 0; j < ds.Length; j++)
        {
            ds[j] = w[j] == 0 ? 0 : w[j] * (dw[j] - delta);
        }
    }
}
