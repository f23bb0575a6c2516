namespace SieveAttention;

/// <summary>Alpha-entmax attention on the devices that compute in host memory. Arguments have been checked.</summary>
internal static class HostEntmax
{
    internal static void Forward(
        AttentionDevice device, in AttentionProblem problem, EntmaxOptions options, AttentionInputs inputs, EntmaxResult into)
    {
        double[] alpha = OptionGuard.Spread(options.Alpha, problem.QueryHeads);
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            CpuCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Cpu.Rows.EntmaxRow row = new(problem, alpha);
            call.Write(Cpu.RowAttention.Forward(problem, call.Terms, row, call.Query, call.Key, call.Value), into.Output);
            HostTensors.Write(row.Tau, into.Tau);
            HostTensors.Write(row.Support, into.Support);
        }
        else
        {
            ReferenceCall call = new(problem, inputs, options.Scores, options.Epilogue);
            Reference.EntmaxRow row = new(problem, alpha);
            call.Write(Reference.RowAttention.Forward(problem, call.Terms, row, call.Query, call.Key, call.Value), into.Output);
            HostTensors.Write(row.Tau, into.Tau);
            HostTensors.Write(row.Support, into.Support);
        }
    }

    internal static EntmaxGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        EntmaxOptions options,
        AttentionInputs inputs,
        AttentionTensor outputGradient)
    {
        double[] alpha = OptionGuard.Spread(options.Alpha, problem.QueryHeads);
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Cpu.Rows.EntmaxRow row = new(problem, alpha);
            CpuCall call = new(problem, inputs, options.Scores, options.Epilogue);
            GradientTensors tensors = call.Differentiate(row, outputGradient);
            return new EntmaxGradients(tensors, OptionGuard.Gather(row.AlphaGradient, options.Alpha.Count));
        }
        else
        {
            Reference.EntmaxRow row = new(problem, alpha);
            ReferenceCall call = new(problem, inputs, options.Scores, options.Epilogue);
            GradientTensors tensors = call.Differentiate(row, outputGradient);
            return new EntmaxGradients(tensors, OptionGuard.Gather(row.AlphaGradient, options.Alpha.Count));
        }
    }
}
