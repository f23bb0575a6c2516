using System.Numerics;

namespace SieveAttention;

/// <summary>
/// One call of an operator with one view on a device that computes in host memory: the inputs as arrays of its precision, and what
/// surrounds the operator itself, which is the epilogue and the way back to tensors. Arguments have been checked.
/// </summary>
internal abstract class HostCall<T>
    where T : unmanaged, IFloatingPointIeee754<T>
{
    private readonly RowFactor _rowFactor;
    private readonly EpilogueParameters _epilogue;
    private readonly T[]? _normGain;
    private readonly HostArray<T>? _gate;

    private protected HostCall(in AttentionProblem problem, AttentionInputs inputs, ScoreOptions scores, OutputEpilogue epilogue)
    {
        Problem = problem;
        Terms = scores.ToTerms<T>(problem, inputs.RowFactors);
        Query = HostArray<T>.Read(inputs.Query);
        Key = HostArray<T>.Read(inputs.Key);
        Value = HostArray<T>.Read(inputs.Value);
        _rowFactor = scores.RowFactor;
        _epilogue = epilogue.ToParameters();
        _normGain = HostTensors.ReadOptional<T>(inputs.NormGain)?.Data;
        _gate = HostTensors.ReadOptional<T>(inputs.Gate);
    }

    internal AttentionProblem Problem { get; }

    internal ScoreTerms<T> Terms { get; }

    internal HostArray<T> Query { get; }

    internal HostArray<T> Key { get; }

    internal HostArray<T> Value { get; }

    /// <summary>Whether an output differs from what the operator computes; if not, gradients of the epilogue do not read x.</summary>
    internal bool HasEpilogue => !_epilogue.IsIdentity || _gate is not null;

    /// <summary>Applies the epilogue to the rows x of the operator and rounds them into the output.</summary>
    internal void Write(HostArray<T> x, AttentionTensor output) => Forward(_epilogue, _normGain, _gate, x).WriteTo(output);

    /// <summary>Gradients of the rows x before the epilogue, and of gain and gate.</summary>
    internal EpilogueGradients<T> EpilogueGradients(HostArray<T> x, AttentionTensor outputGradient) =>
        Backward(_epilogue, _normGain, _gate, x, HostArray<T>.Read(outputGradient));

    /// <summary>The gradients as tensors of the public interface.</summary>
    internal GradientTensors Gradients(RowGradients<T> rows, EpilogueGradients<T> epilogue) => new(
        HostTensors.Wrap(rows.Query),
        HostTensors.Wrap(rows.Key),
        HostTensors.Wrap(rows.Value),
        RowFactorGradients.Of(_rowFactor, Problem, rows.RowFactor),
        HostTensors.WrapChannels(epilogue.NormGain),
        HostTensors.WrapOptional(epilogue.Gate));

    private protected abstract HostArray<T> Forward(
        EpilogueParameters parameters, T[]? normGain, HostArray<T>? gate, HostArray<T> x);

    private protected abstract EpilogueGradients<T> Backward(
        EpilogueParameters parameters, T[]? normGain, HostArray<T>? gate, HostArray<T> x, HostArray<T> dy);
}

/// <summary>A call on the Reference device.</summary>
internal sealed class ReferenceCall(
    in AttentionProblem problem, AttentionInputs inputs, ScoreOptions scores, OutputEpilogue epilogue)
    : HostCall<double>(problem, inputs, scores, epilogue)
{
    /// <summary>Both passes of an operator that is a row function.</summary>
    internal GradientTensors Differentiate(Reference.RowFunction function, AttentionTensor outputGradient)
    {
        // Without an epilogue the output is not needed.
        HostArray<double> x = HasEpilogue
            ? Reference.RowAttention.Forward(Problem, Terms, function, Query, Key, Value)
            : new HostArray<double>(default);
        EpilogueGradients<double> epilogue = EpilogueGradients(x, outputGradient);
        return Gradients(Reference.RowAttention.Backward(Problem, Terms, function, Query, Key, Value, epilogue.Output), epilogue);
    }

    private protected override HostArray<double> Forward(
        EpilogueParameters parameters, double[]? normGain, HostArray<double>? gate, HostArray<double> x) =>
        Reference.EpiloguePass.Forward(parameters, normGain, gate, x);

    private protected override EpilogueGradients<double> Backward(
        EpilogueParameters parameters, double[]? normGain, HostArray<double>? gate, HostArray<double> x, HostArray<double> dy) =>
        Reference.EpiloguePass.Backward(parameters, normGain, gate, x, dy);
}

/// <summary>A call on the Cpu device.</summary>
internal sealed class CpuCall(
    in AttentionProblem problem, AttentionInputs inputs, ScoreOptions scores, OutputEpilogue epilogue)
    : HostCall<float>(problem, inputs, scores, epilogue)
{
    /// <summary>Both passes of an operator that is a row function.</summary>
    internal GradientTensors Differentiate(Cpu.Rows.RowFunction function, AttentionTensor outputGradient)
    {
        // Without an epilogue the output is not needed.
        HostArray<float> x = HasEpilogue
            ? Cpu.RowAttention.Forward(Problem, Terms, function, Query, Key, Value)
            : new HostArray<float>(default);
        EpilogueGradients<float> epilogue = EpilogueGradients(x, outputGradient);
        return Gradients(Cpu.RowAttention.Backward(Problem, Terms, function, Query, Key, Value, epilogue.Output), epilogue);
    }

    private protected override HostArray<float> Forward(
        EpilogueParameters parameters, float[]? normGain, HostArray<float>? gate, HostArray<float> x) =>
        Cpu.EpiloguePass.Forward(parameters, normGain, gate, x);

    private protected override EpilogueGradients<float> Backward(
        EpilogueParameters parameters, float[]? normGain, HostArray<float>? gate, HostArray<float> x, HostArray<float> dy) =>
        Cpu.EpiloguePass.Backward(parameters, normGain, gate, x, dy);
}
