namespace SieveAttention.Reference;

/// <summary>
/// Differential attention with pairs or groups of heads in float64; names are those of the formulas in
/// <see cref="GroupedDifferentialAttention"/>:
/// <code>
/// x_s = O_s - sg_s O_n,  sg_s = sigmoid(ell_s)      y_s = epilogue(x_s)
/// dO_s = dx_s     dO_n = -sum over s of sg_s dx_s   dell_s = -sg_s (1 - sg_s) dx_s . O_n
/// </code>
/// Plain loops, one thread.
/// </summary>
internal static class GroupedDifferential
{
    internal static GroupedDifferentialForward<double> Forward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<double> inputs)
    {
        Softmax.ForwardResult heads = Softmax.Forward(problem, terms, inputs.Query, inputs.Key, inputs.Value);
        HostArray<double> x = Subtract(problem, parameters, heads.Output, inputs.LambdaLogit);
        HostArray<double> y = EpiloguePass.Forward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x);
        return new GroupedDifferentialForward<double>(y, heads.LogSumExp);
    }

    internal static GroupedDifferentialBackward<double> Backward(
        in AttentionProblem problem,
        ScoreTerms<double> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<double> inputs,
        HostArray<double> dout)
    {
        HostArray<double> o = Softmax.Forward(problem, terms, inputs.Query, inputs.Key, inputs.Value).Output;
        HostArray<double> x = Subtract(problem, parameters, o, inputs.LambdaLogit);
        EpilogueGradients<double> epilogue = EpiloguePass.Backward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x, dout);
        HostArray<double> dx = epilogue.Output;

        HostArray<double> dO = new(problem.OutputShape);
        HostArray<double> dell = new(inputs.LambdaLogit.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                int signal = parameters.SignalHead(h);
                int noise = parameters.NoiseHead(h);
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    double sg = Sigmoid(inputs.LambdaLogit.Row(b, h, i)[0]);
                    ReadOnlySpan<double> dxs = dx.Row(b, h, i);
                    dxs.CopyTo(dO.Row(b, signal, i));
                    Span<double> dOn = dO.Row(b, noise, i);
                    for (int c = 0; c < dxs.Length; c++)
                    {
                        dOn[c] -= sg * dxs[c];
                    }

                    dell.Row(b, h, i)[0] = -sg * (1 - sg) * UnitVectors.Dot(dxs, o.Row(b, noise, i));
                }
            }
        }

        RowGradients<double> heads = Softmax.Backward(problem, terms, inputs.Query, inputs.Key, inputs.Value, dO);
        return new GroupedDifferentialBackward<double>(heads.Query, heads.Key, heads.Value, dell, epilogue.NormGain, epilogue.Gate);
    }

    /// <summary>x_s = O_s - sg_s O_n. Where sg is 0 the noise head contributes nothing, whatever it holds.</summary>
    private static HostArray<double> Subtract(
        in AttentionProblem problem, GroupedDifferentialParameters parameters, HostArray<double> o, HostArray<double> ell)
    {
        HostArray<double> x = new(parameters.OutputProblem(problem).OutputShape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                for (int i = 0; i < x.Shape.Rows; i++)
                {
                    double sg = Sigmoid(ell.Row(b, h, i)[0]);
                    ReadOnlySpan<double> os = o.Row(b, parameters.SignalHead(h), i);
                    ReadOnlySpan<double> on = o.Row(b, parameters.NoiseHead(h), i);
                    Span<double> xs = x.Row(b, h, i);
                    for (int c = 0; c < xs.Length; c++)
                    {
                        xs[c] = sg == 0 ? os[c] : os[c] - (sg * on[c]);
                    }
                }
            }
        }

        return x;
    }

    private static double Sigmoid(double logit) => 1 / (1 + Math.Exp(-logit));
}
