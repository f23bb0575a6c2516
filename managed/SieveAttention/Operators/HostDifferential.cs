using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Differential attention on the devices that compute in host memory. Arguments have been checked; tensors become arrays of the device's
/// precision, results are rounded once to the type of their tensor. Lambda and its gradient are float64 on every device.
/// </summary>
internal static class HostDifferential
{
    private delegate DifferentialForward<T> ForwardFunction<T>(
        in AttentionProblem problem, ScoreTerms<T> terms, DifferentialParameters parameters, DifferentialArrays<T> inputs)
        where T : unmanaged, IFloatingPointIeee754<T>;

    private delegate DifferentialBackward<T> BackwardFunction<T>(
        in AttentionProblem problem,
        ScoreTerms<T> terms,
        DifferentialParameters parameters,
        DifferentialArrays<T> inputs,
        HostArray<T> dout)
        where T : unmanaged, IFloatingPointIeee754<T>;

    internal static void Forward(
        AttentionDevice device,
        in AttentionProblem problem,
        DifferentialOptions options,
        DifferentialLambda lambda,
        DifferentialInputs inputs,
        DifferentialResult into)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Run<float>(Cpu.Differential.Forward, problem, options, lambda, inputs, into);
        }
        else
        {
            Run<double>(Reference.Differential.Forward, problem, options, lambda, inputs, into);
        }
    }

    internal static DifferentialGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        DifferentialOptions options,
        DifferentialLambda lambda,
        DifferentialInputs inputs,
        AttentionTensor outputGradient) => device.Kind == AttentionDeviceKind.Cpu
            ? Run<float>(Cpu.Differential.Backward, problem, options, lambda, inputs, outputGradient)
            : Run<double>(Reference.Differential.Backward, problem, options, lambda, inputs, outputGradient);

    private static void Run<T>(
        ForwardFunction<T> forward,
        in AttentionProblem problem,
        DifferentialOptions options,
        DifferentialLambda lambda,
        DifferentialInputs inputs,
        DifferentialResult into)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        DifferentialForward<T> result = forward(
            problem, options.Scores.ToTerms<T>(problem, rowFactors: null), Parameters(options, lambda), Read<T>(inputs));
        result.Output.WriteTo(into.Output);
        HostTensors.Write(result.LogSumExp1, into.LogSumExp1);
        HostTensors.Write(result.LogSumExp2, into.LogSumExp2);
    }

    private static DifferentialGradients Run<T>(
        BackwardFunction<T> backward,
        in AttentionProblem problem,
        DifferentialOptions options,
        DifferentialLambda lambda,
        DifferentialInputs inputs,
        AttentionTensor outputGradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        DifferentialBackward<T> gradients = backward(
            problem,
            options.Scores.ToTerms<T>(problem, rowFactors: null),
            Parameters(options, lambda),
            Read<T>(inputs),
            HostArray<T>.Read(outputGradient));
        return new DifferentialGradients
        {
            Query1 = HostTensors.Wrap(gradients.Query1),
            Key1 = HostTensors.Wrap(gradients.Key1),
            Query2 = HostTensors.Wrap(gradients.Query2),
            Key2 = HostTensors.Wrap(gradients.Key2),
            Value = HostTensors.Wrap(gradients.Value),
            Lambda = lambda.Gradient(gradients.Lambda),
            LambdaVectors = HostTensors.WrapOptional(lambda.VectorGradient<T>(gradients.Lambda)),
            NormGain = HostTensors.WrapChannels(gradients.NormGain),
            Gate = HostTensors.WrapOptional(gradients.Gate),
        };
    }

    private static DifferentialParameters Parameters(DifferentialOptions options, DifferentialLambda lambda) =>
        new(lambda.PerHead, options.Epilogue.ToParameters());

    private static DifferentialArrays<T> Read<T>(DifferentialInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T> => new(
            HostArray<T>.Read(inputs.Query1),
            HostArray<T>.Read(inputs.Key1),
            HostArray<T>.Read(inputs.Query2),
            HostArray<T>.Read(inputs.Key2),
            HostArray<T>.Read(inputs.Value),
            HostTensors.ReadOptional<T>(inputs.NormGain)?.Data,
            HostTensors.ReadOptional<T>(inputs.Gate));
}
