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
            Cpu.Rows.RowFunction function = CpuFunction(problem, options.Weights, inputs);
            call.Write(Cpu.RowAttention.Forward(problem, call.Terms, function, call.Query, call.Key, call.Value), into.Output);
        }
        else
        {
            ReferenceCall call = new(problem, inputs.Attention, options.Scores, options.Epilogue);
            Reference.RowFunction function = ReferenceFunction(problem, options.Weights, inputs.AffineFactor, inputs.AffineShift);
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
            Cpu.Rows.RowFunction function = CpuFunction(problem, options.Weights, inputs);
            GradientTensors tensors = new CpuCall(problem, inputs.Attention, options.Scores, options.Epilogue)
                .Differentiate(function, outputGradient);
            return new RowFunctionGradients(tensors, Gradients(function, count));
        }
        else
        {
            Reference.RowFunction function = ReferenceFunction(problem, options.Weights, inputs.AffineFactor, inputs.AffineShift);
            GradientTensors tensors = new ReferenceCall(problem, inputs.Attention, options.Scores, options.Epilogue)
                .Differentiate(function, outputGradient);
            return new RowFunctionGradients(tensors, Gradients(function, count));
        }
    }

    private static double[]? Parameter(in AttentionProblem problem, RowWeights weights) =>
        weights.HeadParameter is var (_, values) ? OptionGuard.Spread(values, problem.QueryHeads) : null;

    internal static Reference.RowFunction ReferenceFunction(
        in AttentionProblem problem, RowWeights weights, AttentionTensor? affineFactor, AttentionTensor? affineShift) =>
        weights switch
        {
            SoftpickWeights softpick => new Reference.SoftpickRow(softpick.Epsilon),
            SigmoidWeights => new Reference.SigmoidRow(problem, Parameter(problem, weights)),
            ElasticSoftmaxWeights => new Reference.ElasticSoftmaxRow(problem, Parameter(problem, weights)!),
            AlphaReluWeights relu => new Reference.AlphaReluRow(problem, relu.Alpha, Parameter(problem, weights)!),
            _ => new Reference.AffineRow(
                problem, HostArray<double>.Read(affineFactor!), HostTensors.ReadOptional<double>(affineShift)),
        };

    private static Cpu.Rows.RowFunction CpuFunction(in AttentionProblem problem, RowWeights weights, RowFunctionInputs inputs) =>
        weights switch
        {
            SoftpickWeights softpick => new Cpu.Rows.SoftpickRow(softpick.Epsilon),
            SigmoidWeights => new Cpu.Rows.SigmoidRow(problem, Parameter(problem, weights)),
            ElasticSoftmaxWeights => new Cpu.Rows.ElasticSoftmaxRow(problem, Parameter(problem, weights)!),
            AlphaReluWeights relu => new Cpu.Rows.AlphaReluRow(problem, relu.Alpha, Parameter(problem, weights)!),
            _ => new Cpu.Rows.AffineRow(
                problem, HostArray<float>.Read(inputs.AffineFactor!), HostTensors.ReadOptional<float>(inputs.AffineShift)),
        };

    private static RowParameterGradients Gradients(Reference.RowFunction function, int count) => function switch
    {
        Reference.SigmoidRow row => new RowParameterGradients(OptionGuard.Gather(row.BiasGradient, count), null, null),
        Reference.ElasticSoftmaxRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count), null, null),
        Reference.AlphaReluRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count), null, null),
        Reference.AffineRow row => new RowParameterGradients(
            null, HostTensors.Wrap(row.FactorGradient), HostTensors.WrapOptional(row.ShiftGradient)),
        _ => new RowParameterGradients(null, null, null),
    };

    private static RowParameterGradients Gradients(Cpu.Rows.RowFunction function, int count) => function switch
    {
        Cpu.Rows.SigmoidRow row => new RowParameterGradients(OptionGuard.Gather(row.BiasGradient, count), null, null),
        Cpu.Rows.ElasticSoftmaxRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count), null, null),
        Cpu.Rows.AlphaReluRow row => new RowParameterGradients(OptionGuard.Gather(row.TauGradient, count), null, null),
        Cpu.Rows.AffineRow row => new RowParameterGradients(
            null, HostTensors.Wrap(row.FactorGradient), HostTensors.WrapOptional(row.ShiftGradient)),
        _ => new RowParameterGradients(null, null, null),
    };
}
