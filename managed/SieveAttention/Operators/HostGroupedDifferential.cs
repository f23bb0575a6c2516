using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Grouped differential attention on the devices that compute in host memory. Arguments have been checked; tensors become arrays of the
/// device's precision, results are rounded once to the type of their tensor.
/// </summary>
internal static class HostGroupedDifferential
{
    private delegate GroupedDifferentialForward<T> ForwardFunction<T>(
        in AttentionProblem problem, ScoreTerms<T> terms, GroupedDifferentialParameters parameters, GroupedDifferentialArrays<T> inputs)
        where T : unmanaged, IFloatingPointIeee754<T>;

    private delegate GroupedDifferentialBackward<T> BackwardFunction<T>(
        in AttentionProblem problem,
        ScoreTerms<T> terms,
        GroupedDifferentialParameters parameters,
        GroupedDifferentialArrays<T> inputs,
        HostArray<T> dout)
        where T : unmanaged, IFloatingPointIeee754<T>;

    internal static void Forward(
        AttentionDevice device,
        in AttentionProblem problem,
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult into)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Run<float>(Cpu.GroupedDifferential.Forward, problem, options, inputs, into);
        }
        else
        {
            Run<double>(Reference.GroupedDifferential.Forward, problem, options, inputs, into);
        }
    }

    internal static GroupedDifferentialGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        AttentionTensor outputGradient) => device.Kind == AttentionDeviceKind.Cpu
            ? Run<float>(Cpu.GroupedDifferential.Backward, problem, options, inputs, outputGradient)
            : Run<double>(Reference.GroupedDifferential.Backward, problem, options, inputs, outputGradient);

    private static void Run<T>(
        ForwardFunction<T> forward,
        in AttentionProblem problem,
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult into)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        GroupedDifferentialForward<T> result = forward(
            problem, options.Scores.ToTerms<T>(problem, rowFactors: null), options.ToParameters(), Read<T>(inputs));
        result.Output.WriteTo(into.Output);
        HostTensors.Write(result.LogSumExp, into.LogSumExp);
    }

    private static GroupedDifferentialGradients Run<T>(
        BackwardFunction<T> backward,
        in AttentionProblem problem,
        GroupedDifferentialOptions options,
        GroupedDifferentialInputs inputs,
        AttentionTensor outputGradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        GroupedDifferentialBackward<T> gradients = backward(
            problem,
            options.Scores.ToTerms<T>(problem, rowFactors: null),
            options.ToParameters(),
            Read<T>(inputs),
            HostArray<T>.Read(outputGradient));
        return new GroupedDifferentialGradients
        {
            Query = HostTensors.Wrap(gradients.Query),
            Key = HostTensors.Wrap(gradients.Key),
            Value = HostTensors.Wrap(gradients.Value),
            LambdaLogit = HostTensors.Wrap(gradients.LambdaLogit),
            NormGain = HostTensors.WrapChannels(gradients.NormGain),
            Gate = HostTensors.WrapOptional(gradients.Gate),
        };
    }

    private static GroupedDifferentialArrays<T> Read<T>(GroupedDifferentialInputs inputs)
        where T : unmanaged, IFloatingPointIeee754<T> => new(
            HostArray<T>.Read(inputs.Query),
            HostArray<T>.Read(inputs.Key),
            HostArray<T>.Read(inputs.Value),
            HostArray<T>.Read(inputs.LambdaLogit),
            HostTensors.ReadOptional<T>(inputs.NormGain)?.Data,
            HostTensors.ReadOptional<T>(inputs.Gate));
}
