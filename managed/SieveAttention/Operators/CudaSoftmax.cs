using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>
/// Softmax attention on one CUDA device: what kernels take beyond the checks that all devices share, and the tensors for their results.
/// </summary>
internal sealed class CudaSoftmax(CudaDevice device, SoftmaxOptions options)
{
    private readonly NativeRowFactor _factor = NativeRowFactor.Of(device, options.Scores.RowFactor);

    /// <summary>Checks inputs that have passed the checks of all devices.</summary>
    internal void Check(AttentionInputs inputs, PackedSequences? sequences)
    {
        ProblemBuilder.CheckSameType(
            inputs.Query, nameof(inputs.Query), (inputs.Key, nameof(inputs.Key)), (inputs.Value, nameof(inputs.Value)));
        CheckScores(device, options.Scores);
        if (sequences is not null && inputs.KeyLengths is not null)
        {
            throw Guard.Tensor(
                nameof(inputs.KeyLengths),
                "KeyLengths is given with packed sequences, which have lengths of their own; allowed: one of them.");
        }
    }

    /// <summary>Checks what the kernels do not compute.</summary>
    internal static void CheckScores(CudaDevice device, ScoreOptions scores, string what = "softmax attention")
    {
        if (scores.AlibiSlopes is not null)
        {
            DeviceGuard.OnlyOn(
                device, $"A distance bias (AlibiSlopes) of {what}", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        }

        if (scores.Scale is { } scale && !((float)scale > 0))
        {
            throw new NotSupportedException(FormattableString.Invariant(
                $"Scale is {scale}; allowed on {device.Name}: greater than 0. The devices Reference and Cpu take any."));
        }
    }

    /// <summary>Checks a tensor for the gradient of an input.</summary>
    internal static void Like(CudaDevice device, AttentionTensor input, AttentionTensor gradient, string name) => TensorGuard.Output(
        gradient, $"{name} gradient", device, input.Shape, $"the shape of {name}", input.Type, TensorType.Float32);

    /// <summary>Checks tensors for the gradients of gain and gate.</summary>
    internal static void CheckEpilogueGradients(
        CudaDevice device,
        in AttentionProblem output,
        AttentionTensor? normGain,
        AttentionTensor? gainGradient,
        AttentionTensor? gate,
        AttentionTensor? gateGradient)
    {
        if (gainGradient is not null)
        {
            Wanted(normGain is not null, "NormGain", "a gain");
            Like(device, normGain!, gainGradient, "NormGain");
            TensorGuard.Type(gainGradient, "NormGain gradient", TensorType.Float32);
            TensorGuard.Dense(gainGradient, "NormGain gradient");
        }

        if (gateGradient is not null)
        {
            Wanted(gate is not null, "Gate", "a gate");
            ProblemBuilder.CheckRows(device, output, gateGradient, "Gate gradient");
        }
    }

    /// <summary>New tensors for a result: the output in the type of the queries.</summary>
    internal SoftmaxResult Allocate(TensorType type, in AttentionProblem problem)
    {
        AttentionTensor output = AttentionTensor.Allocate(type, problem.OutputShape, device);
        try
        {
            return new SoftmaxResult(output, AttentionTensor.Allocate(TensorType.Float32, problem.RowShape, device));
        }
        catch
        {
            output.Dispose();
            throw;
        }
    }

    /// <summary>New tensors for the gradients of everything that the inputs and the row factor have.</summary>
    internal AttentionGradients AllocateGradients(in AttentionProblem problem, AttentionInputs inputs)
    {
        List<AttentionTensor> made = [];
        try
        {
            return new AttentionGradients(
                Make(inputs.Query.Type, problem.QueryShape),
                Make(inputs.Key.Type, problem.KeyShape),
                Make(inputs.Value.Type, problem.ValueShape),
                inputs.Gate is null ? null : Make(TensorType.Float32, problem.RowShape),
                options.Scores.RowFactor.Kind switch
                {
                    RowFactorKind.None => null,
                    RowFactorKind.PerRow => RowFactorGradients.OfRows(Make(TensorType.Float32, problem.RowShape)),
                    RowFactorKind.Asentmax => RowFactorGradients.OfHeads(MakeHeads(problem), MakeHeads(problem)),
                    _ => RowFactorGradients.OfHeads(MakeHeads(problem)),
                });
        }
        catch
        {
            made.ForEach(tensor => tensor.Dispose());
            throw;
        }

        AttentionTensor MakeHeads(in AttentionProblem problem) => Make(TensorType.Float32, HeadShape(problem));

        AttentionTensor Make(TensorType type, TensorShape shape)
        {
            AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
            made.Add(tensor);
            return tensor;
        }
    }

    /// <summary>Checks tensors for gradients.</summary>
    internal void CheckGradients(in AttentionProblem problem, AttentionInputs inputs, AttentionGradients into)
    {
        Like(device, inputs.Query, into.Query, nameof(into.Query));
        Like(device, inputs.Key, into.Key, nameof(into.Key));
        Like(device, inputs.Value, into.Value, nameof(into.Value));
        if (into.Gate is { } gate)
        {
            Wanted(inputs.Gate is not null, nameof(into.Gate), "a gate");
            Rows(problem, gate, "Gate");
        }

        if (into.NormGain is not null)
        {
            Wanted(false, nameof(into.NormGain), "a norm, of which this device has no gradient");
        }

        if (into.RowFactor is not { } factor)
        {
            return;
        }

        RowFactorKind kind = options.Scores.RowFactor.Kind;
        if (factor.Rows is { } rows)
        {
            Wanted(kind != RowFactorKind.None, "RowFactor.Rows", "a row factor");
            Rows(problem, rows, "RowFactor.Rows");
        }

        Heads(problem, factor.HeadValues, kind is not (RowFactorKind.None or RowFactorKind.PerRow), "RowFactor.HeadValues");
        Heads(problem, factor.HeadExponents, kind == RowFactorKind.Asentmax, "RowFactor.HeadExponents");
    }

    internal void Forward(
        AttentionInputs inputs, PackedSequences? sequences, SoftmaxResult into, AttentionStream? stream, DeviceWorkspace? workspace) =>
        NativeSoftmax.Forward(device, options, _factor, inputs, sequences?.On(device), into, stream, workspace);

    internal void Backward(
        AttentionInputs inputs,
        PackedSequences? sequences,
        SoftmaxResult forward,
        AttentionTensor outputGradient,
        AttentionGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        NativeSoftmax.Backward(
            device, options, _factor, inputs, sequences?.On(device), forward, outputGradient, into, stream, workspace);
        into.RowFactor?.Written(options.Scores.RowFactor, stream);
    }

    internal void Decode(
        DecodeInputs inputs, CachedKeys cache, SoftmaxResult into, AttentionStream? stream, DeviceWorkspace? workspace) =>
        NativeSoftmax.Decode(device, options, _factor, inputs, cache, into, stream, workspace);

    private static TensorShape HeadShape(in AttentionProblem problem) => new(1, problem.QueryHeads, 1, 1);


    private void Rows(in AttentionProblem problem, AttentionTensor gradient, string name) =>
        ProblemBuilder.CheckRows(device, problem, gradient, $"{name} gradient");

    private void Heads(in AttentionProblem problem, AttentionTensor? gradient, bool wanted, string name)
    {
        if (gradient is not null)
        {
            Wanted(wanted, name, "a row factor with such values");
            TensorGuard.Output(gradient, $"{name} gradient", device, HeadShape(problem), "[1, query heads, 1, 1]", TensorType.Float32);
            TensorGuard.Dense(gradient, $"{name} gradient");
        }
    }

    private static void Wanted(bool wanted, string name, string what)
    {
        if (!wanted)
        {
            throw Guard.Tensor(name, $"A tensor for the gradient {name} is given; allowed: only with {what}.");
        }
    }
}
