namespace SieveAttention;

/// <summary>The row functions of related papers on the devices that compute in host memory. Arguments have been checked.</summary>
internal static class HostRowFunction
{
    internal static void Forward(
        AttentionDevice device, in AttentionProblem problem, RowFunctionOptions options, RowFunctionInputs inputs, RowFunctionResult into)
    {
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            CpuCall call = new(problem, inputs.Attention, options.Scores, options.Epilogue);
            Cpu.Rows.RowFunction function = CpuFunction(problem, options.Weights, inputs.Extras);
            call.Write(Cpu.RowAttention.Forward(problem, call.Terms, function, call.Query, call.Key, call.Value), into.Output);
        }
        else
        {
            ReferenceCall call = new(problem, inputs.Attention, options.Scores, options.Epilogue);
            Reference.RowFunction function = ReferenceFunction(problem, options.Weights, inputs.Extras);
            call.Write(Reference.RowAttention.Forward(problem, call.Terms, function, call.Query, call.Key, call.Value), into.Output);
        }
    }

    internal static RowFunctionGradients Backward(
        AttentionDevice device,
        in AttentionProblem problem,
        RowFunctionOptions options,
        RowFunctionInputs inputs,
        AttentionTensor outputGradient)
    {
        int count = options.Weights.HeadParameter?.Values.Count ?? 1;
        if (device.Kind == AttentionDeviceKind.Cpu)
        {
            Cpu.Rows.RowFunction function = CpuFunction(problem, options.Weights, inputs.Extras);
            GradientTensors tensors = new CpuCall(problem, inputs.Attention, options.Scores, options.Epilogue)
                .Differentiate(function, outputGradient);
            return new RowFunctionGradients(tensors, Gradients(function, count));
        }
        else
        {
            Reference.RowFunction function = ReferenceFunction(problem, options.Weights, inputs.Extras);
            GradientTensors tensors = new ReferenceCall(problem, inputs.Attention, options.Scores, options.Epilogue)
                .Differentiate(function, outputGradient);
            return new RowFunctionGradients(tensors, Gradients(function, count));
        }
    }

    private static double[]? Parameter(in AttentionProblem problem, RowWeights weights) =>
        weights.HeadParameter is var (_, values) ? OptionGuard.Spread(values, problem.QueryHeads) : null;

    internal static Reference.RowFunction ReferenceFunction(
        in AttentionProblem problem, RowWeights weights, RowFunctionExtras extras) =>
        weights switch
        {
            SoftpickWeights softpick => new Reference.SoftpickRow(softpick.Epsilon),
            SigmoidWeights => new Reference.SigmoidRow(problem, Parameter(problem, weights)),
            ElasticSoftmaxWeights => new Reference.ElasticSoftmaxRow(
                problem, Parameter(problem, weights)!, HostTensors.ReadOptional<double>(extras.DistanceBias)),
            AlphaReluWeights relu => new Reference.AlphaReluRow(problem, relu.Alpha, Parameter(problem, weights)!),
            _ => new Reference.AffineRow(
                problem, HostArray<double>.Read(extras.AffineFactor!), HostTensors.ReadOptional<double>(extras.AffineShift)),
        };

    private static Cpu.Rows.RowFunction CpuFunction(in AttentionProblem problem, RowWeights weights, RowFunctionExtras extras) =>
        weights switch
        {
            SoftpickWeights softpick => new Cpu.Rows.SoftpickRow(softpick.Epsilon),
            SigmoidWeights => new Cpu.Rows.SigmoidRow(problem, Parameter(problem, weights)),
            ElasticSoftmaxWeights => new Cpu.Rows.ElasticSoftmaxRow(
                problem,
                Parameter(problem, weights)!,
                extras.DistanceBias is { } bias ? new Cpu.Rows.DistanceBias(problem, HostArray<float>.Read(bias)) : null),
            AlphaReluWeights relu => new Cpu.Rows.AlphaReluRow(problem, relu.Alpha, Parameter(problem, weights)!),
            _ => new Cpu.Rows.AffineRow(
                problem, HostArray<float>.Read(extras.AffineFactor!), HostTensors.ReadOptional<float>(extras.AffineShift)),
        };

    private static RowParameterGradients Gradients(Reference.RowFunction function, int count) => function switch
    {
        Reference.SigmoidRow row => new RowParameterGradients(OptionGuard.Gather(row.BiasGradient, count)),
        Reference.ElasticSoftmaxRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count))
        {
            DistanceBias = HostTensors.WrapOptional(row.BiasGradient),
        },
        Reference.AlphaReluRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count)),
        Reference.AffineRow row => new RowParameterGradients(null)
        {
            AffineFactor = HostTensors.Wrap(row.FactorGradient),
            AffineShift = HostTensors.WrapOptional(row.ShiftGradient),
        },
        _ => new RowParameterGradients(null),
    };

    private static RowParameterGradients Gradients(Cpu.Rows.RowFunction function, int count) => function switch
    {
        Cpu.Rows.SigmoidRow row => new RowParameterGradients(OptionGuard.Gather(row.BiasGradient, count)),
        Cpu.Rows.ElasticSoftmaxRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count))
        {
            DistanceBias = HostTensors.WrapOptional(row.BiasGradient),
        },
        Cpu.Rows.AlphaReluRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count)),
        Cpu.Rows.AffineRow row => new RowParameterGradients(null)
        {
            AffineFactor = HostTensors.Wrap(row.FactorGradient),
            AffineShift = HostTensors.WrapOptional(row.ShiftGradient),
        },
        _ => new RowParameterGradients(null),
    };
}
