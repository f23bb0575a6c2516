using NUnit.Framework;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Support;

/// <summary>
/// A softmax problem with inputs in a 16-bit type, what float64 gives for it, and what a plain evaluation in the type gives: computed once,
/// compared with any number of kernels.
/// </summary>
internal sealed class SoftmaxProblem
{
    private readonly TensorType _type;
    private readonly AttentionProblem _problem;
    private readonly PlainSoftmax _plain;
    private readonly PlainEpilogue _epilogue;
    private readonly Lazy<(double[] Output, double[] LogSumExp)> _reference;
    private readonly Lazy<double[]> _plainOutput;
    private readonly Lazy<Dictionary<string, double[]>> _gradients;
    private readonly Lazy<PlainSoftmax.Gradients> _plainBackward;
    private readonly Lazy<Dictionary<string, double[]>> _plainGradients;
    private readonly Lazy<Dictionary<string, double[]>> _parameterErrors;

    public SoftmaxProblem(AttentionInputs inputs, SoftmaxOptions options, AttentionTensor? outputGradient)
    {
        Inputs = inputs;
        Options = options;
        OutputGradient = outputGradient;
        _type = inputs.Query.Type;
        _problem = ProblemBuilder.Build(AttentionDevice.Reference, options.Mask, options.Scores, options.Epilogue, inputs);
        _plain = new PlainSoftmax(
            _type,
            _problem,
            options.Scores.ToTerms<float>(_problem, inputs.RowFactors),
            HostArray<float>.Read(inputs.Query),
            HostArray<float>.Read(inputs.Key),
            HostArray<float>.Read(inputs.Value));
        _epilogue = new PlainEpilogue(
            options.Epilogue,
            inputs.NormGain is { } gain ? HostArray<float>.Read(gain).Data : null,
            inputs.Gate is { } gate ? HostArray<float>.Read(gate).Data : null);
        _reference = new(Reference);
        _plainOutput = new(() => Array.ConvertAll(_plain.Forward(_epilogue), value => (double)value));
        _gradients = new(ReferenceGradients);
        _plainBackward = new(() => _plain.Backward(HostArray<float>.Read(OutputGradient!), _epilogue));
        _plainGradients = new(PlainGradients);
        _parameterErrors = new(ParameterErrors);
    }

    /// <summary>In host memory.</summary>
    public AttentionInputs Inputs { get; }

    public SoftmaxOptions Options { get; }

    public AttentionTensor? OutputGradient { get; }

    /// <summary>The random inputs of a case, operands and upstream gradient rounded to a type, one value a row to Float32.</summary>
    public static SoftmaxProblem Of(OneViewCase test, TensorType type)
    {
        Dictionary<string, double[]> variables = test.Variables();
        AttentionInputs exact = test.Inputs(variables);
        AttentionInputs inputs = exact with
        {
            Query = Rounded(exact.Query, type),
            Key = Rounded(exact.Key, type),
            Value = Rounded(exact.Value, type),
            NormGain = RoundedOptional(exact.NormGain),
            Gate = RoundedOptional(exact.Gate),
            RowFactors = RoundedOptional(exact.RowFactors),
        };
        SoftmaxOptions options = new() { Scores = test.Scores(variables), Mask = test.Mask, Epilogue = test.Epilogue };
        return new SoftmaxProblem(inputs, options, Rounded(test.OutputGradient(), type));
    }

    public static AttentionTensor Rounded(AttentionTensor tensor, TensorType type) => Values.Tensor(HostArray<double>.Read(tensor), type);

    /// <summary>The rule of twice the plain error for the output; float32 accuracy for the logarithms.</summary>
    public void AssertForward(double[] output, double[] logSumExp, string what) =>
        Assert.That(ForwardViolations(output, logSumExp, what), Is.Empty);

    public void AssertForward(SoftmaxResult result, string what) =>
        AssertForward(DeviceMemory.Download(result.Output), DeviceMemory.Download(result.LogSumExp), what);

    public List<string> ForwardViolations(double[] output, double[] logSumExp, string what)
    {
        List<string> violations = [];
        Judge(violations, output, _plainOutput.Value, _reference.Value.Output, $"{what}, output", factor: 2);
        double[] expected = _reference.Value.LogSumExp;
        for (int row = 0; row < expected.Length && violations.Count < 5; row++)
        {
            bool close = double.IsInfinity(expected[row])
                ? logSumExp[row].Equals(expected[row])
                : Math.Abs(logSumExp[row] - expected[row]) <= 1e-4 * Math.Max(1, Math.Abs(expected[row]));
            if (!close)
            {
                violations.Add($"{what}: lse of row {row} is {logSumExp[row]}, expected {expected[row]}");
            }
        }

        return violations;
    }

    /// <summary>The rule of three times the plain error, for every gradient that there is.</summary>
    public void AssertGradients(AttentionGradients gradients, string what) => AssertGradients(Named(gradients), what);

    public void AssertGradients(Dictionary<string, double[]> gradients, string what)
    {
        Assert.That(gradients.Keys, Is.EquivalentTo(_gradients.Value.Keys), $"{what}: gradients");
        Assert.That(GradientViolations(gradients, what), Is.Empty);
    }

    public List<string> GradientViolations(Dictionary<string, double[]> gradients, string what)
    {
        List<string> violations = [];
        foreach ((string name, double[] exact) in _gradients.Value)
        {
            double found = Largest(gradients[name]);
            if (Largest(exact) < 1e-12)
            {
                // Rows with one key: their terms cancel, a kernel is left with the rounding of the stored output.
                if (!(found <= Cancellation()))
                {
                    violations.Add($"{what}, gradient of {name}: {found} in place of 0, allowed {Cancellation()}");
                }

                continue;
            }

            if (_parameterErrors.Value.TryGetValue(name, out double[]? expected))
            {
                JudgeParameters(violations, gradients[name], expected, exact, $"{what}, gradient of {name}");
                continue;
            }

            Judge(violations, gradients[name], _plainGradients.Value[name], exact, $"{what}, gradient of {name}", factor: 3);
        }

        return violations;
    }

    /// <summary>Gradients in any memory, by name.</summary>
    public static Dictionary<string, double[]> Named(AttentionGradients gradients)
    {
        Dictionary<string, double[]> named = [];
        Add("q", gradients.Query);
        Add("k", gradients.Key);
        Add("v", gradients.Value);
        Add("gate", gradients.Gate);
        Add("row_factors", gradients.RowFactor?.Rows);
        if (gradients.RowFactor?.Values is { Count: > 0 } values)
        {
            named["row_values"] = [.. values];
        }

        if (gradients.RowFactor?.Exponents is { Count: > 0 } exponents)
        {
            named["row_exponents"] = [.. exponents];
        }

        return named;

        void Add(string name, AttentionTensor? gradient)
        {
            if (gradient is not null)
            {
                named[name] = DeviceMemory.Download(gradient);
            }
        }
    }

    /// <summary>Bound of a gradient that is 0 in exact arithmetic: the output's rounding, through all that multiplies it.</summary>
    private double Cancellation()
    {
        double unit = _type == TensorType.BFloat16 ? 1.0 / 256 : 1.0 / 2048;
        double operands = Math.Max(Largest(Values.Doubles(Inputs.Query)), Largest(Values.Doubles(Inputs.Key)));
        double values = Largest(Values.Doubles(Inputs.Value)) * Largest(Values.Doubles(OutputGradient!));
        return unit * operands * values * Math.Sqrt(_problem.ValueDim) * (Options.Scores.Scale ?? (1 / Math.Sqrt(_problem.HeadDim)));
    }

    // Math.Max keeps NaN.
    private static double Largest(double[] values) => values.Aggregate(0.0, (largest, value) => Math.Max(largest, Math.Abs(value)));

    private void Judge(List<string> violations, double[] kernel, double[] plain, double[] exact, string what, double factor)
    {
        string? violation = KernelTolerance.Violation(kernel, plain, exact, _type, out string report, factor);
        if (violation is not null)
        {
            violations.Add($"{what}: {violation}: {report}");
        }
    }

    private static void JudgeParameters(List<string> violations, double[] kernel, double[] expected, double[] exact, string what)
    {
        for (int n = 0; n < exact.Length; n++)
        {
            double error = Math.Abs(kernel[n] - exact[n]);
            if (!(error <= 3 * expected[n]))
            {
                violations.Add($"{what}: error {error} of {exact[n]}, expected of a plain evaluation {expected[n]}");
            }
        }
    }

    private (double[] Output, double[] LogSumExp) Reference()
    {
        using SoftmaxResult result = new SoftmaxAttention(AttentionDevice.Reference, Options).Forward(Inputs);
        return (Values.Doubles(result.Output), Values.Doubles(result.LogSumExp));
    }

    private Dictionary<string, double[]> ReferenceGradients() =>
        Named(new SoftmaxAttention(AttentionDevice.Reference, Options).Backward(Inputs, OutputGradient!));

    private Dictionary<string, double[]> PlainGradients()
    {
        PlainSoftmax.Gradients plain = _plainBackward.Value;
        return Named(new AttentionGradients(
            HostTensors.Wrap(plain.Query),
            HostTensors.Wrap(plain.Key),
            HostTensors.Wrap(plain.Value),
            HostTensors.WrapOptional(plain.Gate),
            RowFactorGradients.Of(Options.Scores.RowFactor, _problem, plain.RowFactor)));
    }

    private Dictionary<string, double[]> ParameterErrors()
    {
        RowFactor factor = Options.Scores.RowFactor;
        if (factor.Kind is RowFactorKind.None or RowFactorKind.PerRow)
        {
            return [];
        }

        // The reference with the same factors, given row by row, has their gradients row by row.
        SoftmaxOptions options = Options with { Scores = Options.Scores with { RowFactor = RowFactor.PerRow } };
        AttentionInputs inputs = Inputs with
        {
            RowFactors = HostTensors.Wrap(Options.Scores.ToTerms<double>(_problem, null).RowFactor!),
        };
        using AttentionGradients exact = new SoftmaxAttention(AttentionDevice.Reference, options).Backward(inputs, OutputGradient!);
        return RowFactorErrors.Of(factor, _problem, _plainBackward.Value.RowFactor!, HostArray<double>.Read(exact.RowFactor!.Rows!));
    }

    private static AttentionTensor? RoundedOptional(AttentionTensor? tensor) => tensor is null ? null : Rounded(tensor, TensorType.Float32);
}
