namespace SieveAttention.Reference;

/// <summary>
/// Attention with weights that are a function of a row's scores: x_i = sum over visible j of w_ij v_j, w_i = f(s_i),
/// s_ij = scale g_i (q_i . k_j) - slope_h (i + offset - j). A row without a visible key gives 0. No epilogue. Float64, plain loops.
/// </summary>
internal static class RowAttention
{
    internal static HostArray<double> Forward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        RowFunction function,
        HostArray<double> q,
        HostArray<double> k,
        HostArray<double> v)
    {
        HostArray<double> x = new(problem.OutputShape);
        Row row = new(problem.Keys);
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                for (int i = 0; i < problem.Queries; i++)
                {
                    RowPlace place = new(b, h, i, problem.Visible(i));
                    if (place.Visible.Count == 0)
                    {
                        continue;
                    }

                    row.Weigh(problem, terms, function, place, q, k);
                    for (int n = 0; n < place.Visible.Count; n++)
                    {
                        AddScaled(x.Row(b, h, i), row.W[n], v.Row(b, problem.KeyHead(h), place.Visible.First + n));
                    }
                }
            }
        }

        return x;
    }

    internal static RowGradients<double> Backward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        RowFunction function,
        HostArray<double> q,
        HostArray<double> k,
        HostArray<double> v,
        HostArray<double> dx)
    {
        HostArray<double> dq = new(problem.QueryShape);
        HostArray<double> dk = new(problem.KeyShape);
        HostArray<double> dv = new(problem.ValueShape);
        HostArray<double>? dg = terms.RowFactor is null ? null : new HostArray<double>(problem.RowShape);
        Row row = new(problem.Keys);
        double[] dw = new double[problem.Keys];
        double[] ds = new double[problem.Keys];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                int kv = problem.KeyHead(h);
                for (int i = 0; i < problem.Queries; i++)
                {
                    RowPlace place = new(b, h, i, problem.Visible(i));
                    int count = place.Visible.Count;
                    if (count == 0)
                    {
                        continue;
                    }

                    row.Weigh(problem, terms, function, place, q, k);
                    for (int n = 0; n < count; n++)
                    {
                        int j = place.Visible.First + n;
                        dw[n] = UnitVectors.Dot(dx.Row(b, h, i), v.Row(b, kv, j));
                        AddScaled(dv.Row(b, kv, j), row.W[n], dx.Row(b, h, i));
                    }

                    function.Backward(place, row.S.AsSpan(0, count), row.W.AsSpan(0, count), dw.AsSpan(0, count), ds.AsSpan(0, count));

                    // s = g (scale q.k) + bias: the scaled products get g ds, g gets sum ds (scale q.k).
                    double factor = terms.Scale * terms.Factor(b, h, i);
                    for (int n = 0; n < count; n++)
                    {
                        int j = place.Visible.First + n;
                        AddScaled(dq.Row(b, h, i), factor * ds[n], k.Row(b, kv, j));
                        AddScaled(dk.Row(b, kv, j), factor * ds[n], q.Row(b, h, i));
                        if (dg is not null && ds[n] != 0)
                        {
                            dg.Row(b, h, i)[0] += ds[n] * row.Products[n];
                        }
                    }
                }
            }
        }

        return new RowGradients<double>(dq, dk, dv, dg);
    }

    /// <summary>target += factor * source. Factor 0 contributes nothing, whatever the source holds.</summary>
    private static void AddScaled(Span<double> target, double factor, ReadOnlySpan<double> source)
    {
        if (factor == 0)
        {
            return;
        }

        for (int c = 0; c < target.Length; c++)
        {
            target[c] += factor * source[c];
        }
    }

    /// <summary>Values of the visible keys of one row, from index 0.</summary>
    private sealed class Row(int keys)
    {
        /// <summary>scale q.k, without row factor and bias.</summary>
        internal double[] Products { get; } = new double[keys];

        internal double[] S { get; } = new double[keys];

        internal double[] W { get; } = new double[keys];

        internal void Weigh(
            in AttentionProblem problem,
            ScoreTerms<double> terms,
            RowFunction function,
            in RowPlace place,
            HostArray<double> q,
            HostArray<double> k)
        {
            int count = place.Visible.Count;
            double g = terms.Factor(place.Batch, place.Head, place.Row);
            ReadOnlySpan<double> qi = q.Row(place.Batch, place.Head, place.Row);
            for (int n = 0; n < count; n++)
            {
                int j = place.Visible.First + n;
                Products[n] = terms.Scale * UnitVectors.Dot(qi, k.Row(place.Batch, problem.KeyHead(place.Head), j));
                S[n] = (g * Products[n]) + terms.Bias(problem, place.Head, place.Row, j);
            }

            function.Forward(place, S.AsSpan(0, count), W.AsSpan(0, count));
        }
    }
}
