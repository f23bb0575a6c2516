using System.Numerics;

namespace SieveAttention;

/// <summary>
/// Threshold differential attention on the devices that compute in host memory. Arguments have been checked; tensors become
/// arrays of the device's precision, results are rounded once to the type of their tensor.
/// </summary>
internal static class HostThresholdDifferential
{
    private delegate ThresholdDifferentialForward<T> ForwardFunction<T>(
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        HostArray<T> q1,
        HostArray<T> k1,
        HostArray<T>? q2,
        HostArray<T>? k2,
        HostArray<T> v,
        T[]? normGain,
        HostArray<T>? gate)
        where T : unmanaged, IFloatingPointIeee754<T>;

    private delegate ThresholdDifferentialBackward<T> BackwardFunction<T>(
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        HostArray<T> q1,
        HostArray<T> k1,
        HostArray<T>? q2,
        HostArray<T>? k2,
        HostArray<T> v,
        T[]? normGain,
        HostArray<T>? gate,
        HostArray<T> dout)
        where T : unmanaged, IFloatingPointIeee754<T>;

    internal static void Forward(
        AttentionDevice device,
        in AttentionProblem problem,
        ThresholdDifferentialOptions options,
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult into)
    {
        ThresholdDifferentialParameters parameters = options.ToParameters(problem.QueryHeads);
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Run<float>(Cpu.ThresholdDifferential.Forward, problem, parameters, inputs, into);
        }
        else
        {
            Run<double>(Reference.ThresholdDifferential.Forward, problem, parameters, inputs, into);
        }
    }

    internal static ThresholdDifferentialGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        ThresholdDifferentialOptions options,
        ThresholdDifferentialInputs inputs,
        AttentionTensor outputGradient)
    {
        ThresholdDifferentialParameters parameters = options.ToParameters(problem.QueryHeads);
        return device.Kind == AttentionDeviceKind.Cpu
            ? Run<float>(Cpu.ThresholdDifferential.Backward, problem, parameters, inputs, outputGradient)
            : Run<double>(Reference.ThresholdDifferential.Backward, problem, parameters, inputs, outputGradient);
    }

    private static void Run<T>(
        ForwardFunction<T> forward,
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult into)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ThresholdDifferentialForward<T> result = forward(
            problem,
            parameters,
            HostArray<T>.Read(inputs.Query1),
            HostArray<T>.Read(inputs.Key1),
            HostTensors.ReadOptional<T>(inputs.Query2),
            HostTensors.ReadOptional<T>(inputs.Key2),
            HostArray<T>.Read(inputs.Value),
            HostTensors.ReadOptional<T>(inputs.NormGain)?.Data,
            HostTensors.ReadOptional<T>(inputs.Gate));
        result.Output.WriteTo(into.Output);
        HostTensors.Write(result.Survivors1, into.Survivors1);
        if (into.Survivors2 is { } survivors2)
        {
            HostTensors.Write(result.Survivors2!, survivors2);
        }
    }

    private static ThresholdDifferentialGradients Run<T>(
        BackwardFunction<T> backward,
        in AttentionProblem problem,
        ThresholdDifferentialParameters parameters,
        ThresholdDifferentialInputs inputs,
        AttentionTensor outputGradient)
        where T : unmanaged, IFloatingPointIeee754<T>
    {
        ThresholdDifferentialBackward<T> gradients = backward(
            problem,
            parameters,
            HostArray<T>.Read(inputs.Query1),
            HostArray<T>.Read(inputs.Key1),
            HostTensors.ReadOptional<T>(inputs.Query2),
            HostTensors.ReadOptional<T>(inputs.Key2),
            HostArray<T>.Read(inputs.Value),
            HostTensors.ReadOptional<T>(inputs.NormGain)?.Data,
            HostTensors.ReadOptional<T>(inputs.Gate),
            HostArray<T>.Read(outputGradient));
        return new ThresholdDifferentialGradients(
            HostTensors.Wrap(gradients.Query1),
            HostTensors.Wrap(gradients.Key1),
            HostTensors.WrapOptional(gradients.Query2),
            HostTensors.WrapOptional(gradients.Key2),
            HostTensors.Wrap(gradients.Value),
            gradients.NormGain is { } gain ? AttentionTensor.From<T>(gain, new TensorShape(1, 1, 1, gain.Length)) : null,
            HostTensors.WrapOptional(gradients.Gate),
            gradients.Beta,
            gradients.Kappa,
            gradients.Lambda);
    }
}
