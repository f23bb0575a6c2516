namespace SieveAttention;

/// <summary>Softmax attention on the devices that compute in host memory. Arguments have been checked.</summary>
internal static class HostSoftmax
{
    internal static void Forward(
        AttentionDevice device, in AttentionProblem problem, SoftmaxOptions options, AttentionInputs inputs, SoftmaxResult into)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            CpuCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Cpu.Softmax.ForwardResult result = Cpu.Softmax.Forward(problem, call.Terms, call.Query, call.Key, call.Value);
            call.Write(result.Output, into.Output);
            HostTensors.Write(result.LogSumExp, into.LogSumExp);
        }
        else
        {
            ReferenceCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Reference.Softmax.ForwardResult result = Reference.Softmax.Forward(problem, call.Terms, call.Query, call.Key, call.Value);
            call.Write(result.Output, into.Output);
            HostTensors.Write(result.LogSumExp, into.LogSumExp);
        }
    }

    internal static AttentionGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        SoftmaxOptions options,
        AttentionInputs inputs,
        AttentionTensor outputGradient)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            CpuCall call = new(problem, inputs, options.Scores, options.Epilogue);
            (HostArray<float> x, float[] lse) = Cpu.Softmax.Forward(problem, call.Terms, call.Query, call.Key, call.Value);
            EpilogueGradients<float> epilogue = call.EpilogueGradients(x, outputGradient);
            return new AttentionGradients(call.Gradients(
                Cpu.Softmax.Backward(problem, call.Terms, call.Query, call.Key, call.Value, x, lse, epilogue.Output), epilogue));
        }
        else
        {
            ReferenceCall call = new(problem, inputs, options.Scores, options.Epilogue);
            HostArray<double> x = Reference.Softmax.Forward(problem, call.Terms, call.Query, call.Key, call.Value).Output;
            EpilogueGradients<double> epilogue = call.EpilogueGradients(x, outputGradient);
            return new AttentionGradients(call.Gradients(
                Reference.Softmax.Backward(problem, call.Terms, call.Query, call.Key, call.Value, epilogue.Output), epilogue));
        }
    }
}
