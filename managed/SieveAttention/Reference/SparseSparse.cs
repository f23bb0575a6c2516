namespace SieveAttention.Reference;

/// <summary>
/// Sparse sparse attention in float64 (arXiv 2511.20102); names are those of the formulas in <see cref="SparseSparseAttention"/>. Both
/// streams are softmax attention over the same scores; the selection has no gradient. No epilogue. Plain loops, one thread.
/// </summary>
internal static class SparseSparse
{
    /// <summary>Computes o_s, o_f and their log sum of exponentials, as far as they are wanted.</summary>
    internal static SparseSparseForward<double> Forward(
        in AttentionProblem problem, SparseSparseParameters parameters, SparseSparseArrays<double> inputs, bool sparse, bool full)
    {
        ScoreTerms<double> terms = new(parameters.Scale);
        BlockLists? blocks = sparse ? inputs.Blocks ?? BlockSelector.Select(problem, parameters, inputs.Query, inputs.Key) : null;
        SparseSparseOutput<double>? sparseStream = null;
        SparseSparseOutput<double>? fullStream = null;
        if (blocks is not null)
        {
            SelectedSoftmaxRow row = new(problem, blocks);
            HostArray<double> output = RowAttention.Forward(problem, terms, row, inputs.Query, inputs.Key, inputs.Value);
            sparseStream = new SparseSparseOutput<double>(output, row.LogSumExp);
        }

        if (full)
        {
            Softmax.ForwardResult result = Softmax.Forward(problem, terms, inputs.Query, inputs.Key, inputs.Value);
            fullStream = new SparseSparseOutput<double>(result.Output, result.LogSumExp);
        }

        return new SparseSparseForward<double>(sparseStream, fullStream, blocks);
    }

    /// <summary>Gradients of queries, keys and values from those of o_s and o_f; absent = 0.</summary>
    internal static RowGradients<double> Backward(
        in AttentionProblem problem,
        SparseSparseParameters parameters,
        SparseSparseArrays<double> inputs,
        SparseSparseForward<double> forward,
        HostArray<double>? dSparse,
        HostArray<double>? dFull)
    {
        ScoreTerms<double> terms = new(parameters.Scale);
        RowGradients<double> total = new(
            new HostArray<double>(problem.QueryShape),
            new HostArray<double>(problem.KeyShape),
            new HostArray<double>(problem.ValueShape),
            null);
        if (dSparse is not null)
        {
            SelectedSoftmaxRow row = new(problem, forward.Blocks!);
            Add(total, RowAttention.Backward(problem, terms, row, inputs.Query, inputs.Key, inputs.Value, dSparse));
        }

        if (dFull is not null)
        {
            Add(total, Softmax.Backward(problem, terms, inputs.Query, inputs.Key, inputs.Value, dFull));
        }

        return total;
    }

    private static void Add(RowGradients<double> total, RowGradients<double> part)
    {
        Add(total.Query.Data, part.Query.Data);
        Add(total.Key.Data, part.Key.Data);
        Add(total.Value.Data, part.Value.Data);
    }

    private static void Add(double[] total, double[] part)
    {
        for (int n = 0; n < total.Length; n++)
        {
            total[n] += part[n];
        }
    }
}
