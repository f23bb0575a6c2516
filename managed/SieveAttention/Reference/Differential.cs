namespace SieveAttention.Reference;

/// <summary>
/// Differential attention in float64, as defined in arXiv 2410.05258; names are those of the formulas in <see
/// cref="DifferentialAttention"/>:
/// <code>
/// O_t = A_t v,  A_t = softmax of view t        x = O_1 - lambda O_2        y = epilogue(x)
/// dO_1 = dx     dO_2 = -lambda dx              dlambda = -sum over rows of dx . O_2
/// dS_1 = A_1 o (dx v^T - dx . O_1)             dS_2 = -lambda A_2 o (dx v^T - dx . O_2)
/// </code>
/// Plain loops, one thread.
/// </summary>
internal static class Differential
{
    internal static DifferentialForward<double> Forward(
        in AttentionProblem problem, ScoreTerms<double> terms, DifferentialParameters parameters, DifferentialArrays<double> inputs)
    {
        Softmax.ForwardResult view1 = Softmax.Forward(problem, terms, inputs.Query1, inputs.Key1, inputs.Value);
        Softmax.ForwardResult view2 = Softmax.Forward(problem, terms, inputs.Query2, inputs.Key2, inputs.Value);
        HostArray<double> x = Subtract(parameters.Lambda, view1.Output, view2.Output);
        HostArray<double> y = EpiloguePass.Forward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x);
        return new DifferentialForward<double>(y, view1.LogSumExp, view2.LogSumExp);
    }

    internal static DifferentialBackward<double> Backward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        DifferentialParameters parameters,
        DifferentialArrays<double> inputs,
        HostArray<double> dout)
    {
        HostArray<double> o1 = Softmax.Forward(problem, terms, inputs.Query1, inputs.Key1, inputs.Value).Output;
        HostArray<double> o2 = Softmax.Forward(problem, terms, inputs.Query2, inputs.Key2, inputs.Value).Output;
        HostArray<double> x = Subtract(parameters.Lambda, o1, o2);
        EpilogueGradients<double> epilogue = EpiloguePass.Backward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x, dout);
        HostArray<double> dx = epilogue.Output;

        HostArray<double> do2 = new(problem.OutputShape);
        double[] dlambda = new double[problem.QueryHeads];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                ReadOnlySpan<double> dxh = dx.Head(b, h);
                ReadOnlySpan<double> o2h = o2.Head(b, h);
                Span<double> do2h = do2.Head(b, h);
                for (int c = 0; c < dxh.Length; c++)
                {
                    do2h[c] = -parameters.Lambda[h] * dxh[c];
                    dlambda[h] -= dxh[c] * o2h[c];
                }
            }
        }

        RowGradients<double> view1 = Softmax.Backward(problem, terms, inputs.Query1, inputs.Key1, inputs.Value, dx);
        RowGradients<double> view2 = Softmax.Backward(problem, terms, inputs.Query2, inputs.Key2, inputs.Value, do2);
        for (int c = 0; c < view1.Value.Data.Length; c++)
        {
            view1.Value.Data[c] += view2.Value.Data[c];
        }

        return new DifferentialBackward<double>(
            view1.Query, view1.Key, view2.Query, view2.Key, view1.Value, epilogue.NormGain, epilogue.Gate, dlambda);
    }

    /// <summary>x = O_1 - lambda O_2. Where lambda is 0 the second view contributes nothing, whatever it holds.</summary>
    private static HostArray<double> Subtract(double[] lambda, HostArray<double> o1, HostArray<double> o2)
    {
        HostArray<double> x = new(o1.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                ReadOnlySpan<double> o1h = o1.Head(b, h);
                ReadOnlySpan<double> o2h = o2.Head(b, h);
                Span<double> xh = x.Head(b, h);
                for (int c = 0; c < xh.Length; c++)
                {
                    xh[c] = lambda[h] == 0 ? o1h[c] : o1h[c] - (lambda[h] * o2h[c]);
                }
            }
        }

        return x;
    }
}
