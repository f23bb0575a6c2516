using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// Differential attention in float32 on all cores (arXiv 2410.05258): x = O_1 - lambda O_2, each view a tiled softmax attention.
/// </summary>
/// <remarks>
/// What <see cref="Softmax"/> says about threads and memory holds here. Backward computes both outputs again; a second view that no head
/// weighs costs no backward pass. The gradient of lambda is summed in double, one head after the other.
/// </remarks>
internal static class Differential
{
    internal static DifferentialForward<float> Forward(
        in AttentionProblem problem, ScoreTerms<float> terms, DifferentialParameters parameters, DifferentialArrays<float> inputs) =>
        Forward(problem, terms, parameters, inputs, CpuExecution.Default);

    internal static DifferentialForward<float> Forward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        DifferentialParameters parameters,
        DifferentialArrays<float> inputs,
        CpuExecution execution)
    {
        Softmax.ForwardResult view1 = Softmax.Forward(problem, terms, inputs.Query1, inputs.Key1, inputs.Value, execution);
        Softmax.ForwardResult view2 = Softmax.Forward(problem, terms, inputs.Query2, inputs.Key2, inputs.Value, execution);
        HostArray<float> x = Subtract(parameters.Lambda, view1.Output, view2.Output, view1.Output);
        HostArray<float> y = EpiloguePass.Forward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x);
        return new DifferentialForward<float>(y, view1.LogSumExp, view2.LogSumExp);
    }

    internal static DifferentialBackward<float> Backward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        DifferentialParameters parameters,
        DifferentialArrays<float> inputs,
        HostArray<float> dout) => Backward(problem, terms, parameters, inputs, dout, CpuExecution.Default);

    internal static DifferentialBackward<float> Backward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        DifferentialParameters parameters,
        DifferentialArrays<float> inputs,
        HostArray<float> dout,
        CpuExecution execution)
    {
        Softmax.ForwardResult view1 = Softmax.Forward(problem, terms, inputs.Query1, inputs.Key1, inputs.Value, execution);
        Softmax.ForwardResult view2 = Softmax.Forward(problem, terms, inputs.Query2, inputs.Key2, inputs.Value, execution);
        HostArray<float> x = Subtract(parameters.Lambda, view1.Output, view2.Output, new HostArray<float>(problem.OutputShape));
        EpilogueGradients<float> epilogue = EpiloguePass.Backward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x, dout);
        HostArray<float> dx = epilogue.Output;
        // x has served; its memory becomes the gradient of O_2.
        HostArray<float> do2 = x;
        double[] dlambda = new double[problem.QueryHeads];
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                RowMath.Scale(dx.Head(b, h), -(float)parameters.Lambda[h], do2.Head(b, h));
                dlambda[h] -= Dot(dx.Head(b, h), view2.Output.Head(b, h));
            }
        }

        RowGradients<float> gradients1 = Softmax.Backward(
            problem, terms, inputs.Query1, inputs.Key1, inputs.Value, view1.Output, view1.LogSumExp, dx, execution);
        if (Array.TrueForAll(parameters.Lambda, lambda => lambda == 0))
        {
            return new DifferentialBackward<float>(
                gradients1.Query,
                gradients1.Key,
                new HostArray<float>(problem.QueryShape),
                new HostArray<float>(problem.KeyShape),
                gradients1.Value,
                epilogue.NormGain,
                epilogue.Gate,
                dlambda);
        }

        RowGradients<float> gradients2 = Softmax.Backward(
            problem, terms, inputs.Query2, inputs.Key2, inputs.Value, view2.Output, view2.LogSumExp, do2, execution);
        RowMath.Add(gradients2.Value.Data, gradients1.Value.Data);
        return new DifferentialBackward<float>(
            gradients1.Query,
            gradients1.Key,
            gradients2.Query,
            gradients2.Key,
            gradients1.Value,
            epilogue.NormGain,
            epilogue.Gate,
            dlambda);
    }

    /// <summary>x = O_1 - lambda O_2; x may be O_1.</summary>
    private static HostArray<float> Subtract(double[] lambda, HostArray<float> o1, HostArray<float> o2, HostArray<float> x)
    {
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                Subtract(o1.Head(b, h), (float)lambda[h], o2.Head(b, h), x.Head(b, h));
            }
        }

        return x;
    }

    /// <summary>x = o1 - factor o2, in place or not. Factor 0 contributes nothing, whatever o2 holds.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Subtract(ReadOnlySpan<float> o1, float factor, ReadOnlySpan<float> o2, Span<float> x)
    {
        for (int c = 0; c < x.Length; c++)
        {
            x[c] = factor == 0 ? o1[c] : MathF.FusedMultiplyAdd(-factor, o2[c], o1[c]);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        double sum = 0;
        for (int c = 0; c < x.Length; c++)
        {
            sum += (double)x[c] * y[c];
        }

        return sum;
    }
}
