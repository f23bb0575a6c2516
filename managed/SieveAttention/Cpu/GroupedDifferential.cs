using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;

namespace SieveAttention.Cpu;

/// <summary>
/// Differential attention with pairs or groups of heads in float32 on all cores: x_s = O_s - sigmoid(ell_s) O_n, where signal and noise
/// heads are the query heads of one tiled softmax attention.
/// </summary>
/// <remarks>
/// What <see cref="Softmax"/> says about threads and memory holds here. Backward computes the outputs of all heads again. Sigmoids and the
/// products of the gradient of their logits are taken in double.
/// </remarks>
internal static class GroupedDifferential
{
    internal static GroupedDifferentialForward<float> Forward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<float> inputs) => Forward(problem, terms, parameters, inputs, CpuExecution.Default);

    internal static GroupedDifferentialForward<float> Forward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<float> inputs,
        CpuExecution execution)
    {
        Softmax.ForwardResult heads = Softmax.Forward(problem, terms, inputs.Query, inputs.Key, inputs.Value, execution);
        HostArray<float> x = Subtract(problem, parameters, heads.Output, inputs.LambdaLogit);
        HostArray<float> y = EpiloguePass.Forward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x);
        return new GroupedDifferentialForward<float>(y, heads.LogSumExp);
    }

    internal static GroupedDifferentialBackward<float> Backward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<float> inputs,
        HostArray<float> dout) => Backward(problem, terms, parameters, inputs, dout, CpuExecution.Default);

    internal static GroupedDifferentialBackward<float> Backward(
        in AttentionProblem problem,
        ScoreTerms<float> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<float> inputs,
        HostArray<float> dout,
        CpuExecution execution)
    {
        Softmax.ForwardResult heads = Softmax.Forward(problem, terms, inputs.Query, inputs.Key, inputs.Value, execution);
        HostArray<float> x = Subtract(problem, parameters, heads.Output, inputs.LambdaLogit);
        EpilogueGradients<float> epilogue = EpiloguePass.Backward(parameters.Epilogue, inputs.NormGain, inputs.Gate, x, dout);
        HostArray<float> dO = new(problem.OutputShape);
        HostArray<float> dell = new(inputs.LambdaLogit.Shape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                int noise = parameters.NoiseHead(h);
                ReadOnlySpan<float> dx = epilogue.Output.Head(b, h);
                dx.CopyTo(dO.Head(b, parameters.SignalHead(h)));
                Subtract(inputs.LambdaLogit.Head(b, h), dx, dO.Head(b, noise));
                LogitGradient(inputs.LambdaLogit.Head(b, h), dx, heads.Output.Head(b, noise), dell.Head(b, h));
            }
        }

        RowGradients<float> gradients = Softmax.Backward(
            problem, terms, inputs.Query, inputs.Key, inputs.Value, heads.Output, heads.LogSumExp, dO, execution);
        return new GroupedDifferentialBackward<float>(
            gradients.Query, gradients.Key, gradients.Value, dell, epilogue.NormGain, epilogue.Gate);
    }

    /// <summary>x_s = O_s - sigmoid(ell_s) O_n of all signal heads.</summary>
    private static HostArray<float> Subtract(
        in AttentionProblem problem, GroupedDifferentialParameters parameters, HostArray<float> o, HostArray<float> ell)
    {
        HostArray<float> x = new(parameters.OutputProblem(problem).OutputShape);
        for (int b = 0; b < x.Shape.Batch; b++)
        {
            for (int h = 0; h < x.Shape.Heads; h++)
            {
                o.Head(b, parameters.SignalHead(h)).CopyTo(x.Head(b, h));
                Subtract(ell.Head(b, h), o.Head(b, parameters.NoiseHead(h)), x.Head(b, h));
            }
        }

        return x;
    }

    /// <summary>target -= sigmoid(ell) source for each row of a head.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Subtract(ReadOnlySpan<float> ell, ReadOnlySpan<float> source, Span<float> target)
    {
        int channels = target.Length / ell.Length;
        for (int i = 0; i < ell.Length; i++)
        {
            Span<float> row = target.Slice(i * channels, channels);
            Differential.Subtract(row, (float)Sigmoid(ell[i]), source.Slice(i * channels, channels), row);
        }
    }

    /// <summary>dell = -sg (1 - sg) dx . O_n for each row of a head.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void LogitGradient(ReadOnlySpan<float> ell, ReadOnlySpan<float> dx, ReadOnlySpan<float> noise, Span<float> dell)
    {
        int channels = dx.Length / ell.Length;
        for (int i = 0; i < ell.Length; i++)
        {
            double sg = Sigmoid(ell[i]);
            dell[i] = (float)(-sg * (1 - sg) * Differential.Dot(dx.Slice(i * channels, channels), noise.Slice(i * channels, channels)));
        }
    }

    private static double Sigmoid(float logit) => 1 / (1 + Math.Exp(-(double)logit));
}
