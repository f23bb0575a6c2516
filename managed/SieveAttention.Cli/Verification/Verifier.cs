using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Output;

namespace SieveAttention.Cli.Verification;

/// <summary>
/// Compares the devices with the reference on one case. Tolerances: a float32 device 2e-4 of the largest exact magnitude, 1e-3
/// for gradients; a GPU in 16 bits twice the error of the <see cref="PlainEvaluation"/> in that type (gradients three times) plus its
/// floor; the reference 1e-9 and 1e-8 of the expected tensors that lie beside the case. Where those record the magnitude of the terms
/// behind a result, which cancel, tolerances are relative to that; those of a float32 device are never below what rounding leaves of sums
/// that cancel. Integers are exact, except keys whose score is within float32 rounding of the threshold.
/// </summary>
internal sealed class Verifier(AttentionCase given, SafeTensorsFile? expected, IReadOnlyList<TensorType> cudaTypes, Progress progress)
{
    private const double ReferenceTolerance = 1e-9;
    private const double ReferenceGradientTolerance = 1e-8;
    private const double Float32Tolerance = 2e-4;
    private const double Float32GradientTolerance = 1e-3;

    /// <summary>
    /// What float64 itself may leave of a result that is 0, beside the largest result of its pass: 2^-53 for a term, 2^14 times as much
    /// where entmax divides by (alpha - 1)^2, and some hundred terms. Float32 alone is 128 times as coarse.
    /// </summary>
    private const double Float64Rounding = 1.0 / (1L << 31);

    /// <summary>One rounding of float32.</summary>
    private const double Float32Rounding = 1.0 / (1 << 24);

    private const double PlainFactor = 2;
    private const double PlainGradientFactor = 3;

    /// <summary>Part of the decisions (visible pairs) that may differ within rounding.</summary>
    private const double UndecidedShare = 1e-4;

    private readonly List<VerificationRow> _rows = [];

    /// <summary>What the reference gave for the case as it stands; set by <see cref="Run"/>.</summary>
    public CaseResult? Reference { get; private set; }

    /// <summary>Runs everything.</summary>
    /// <param name="devices">Devices other than the reference.</param>
    public IReadOnlyList<VerificationRow> Run(DeviceList devices)
    {
        progress.Step($"{given.Name}: reference");
        Reference = given.Forward(AttentionDevice.Reference);
        CaseResult? gradients = null;
        if (given.HasOutputGradient)
        {
            progress.Step($"{given.Name}: reference, backward");
            gradients = given.Backward(AttentionDevice.Reference);
        }
        CompareWithExpected(Reference, gradients);
        foreach (AttentionDevice device in devices.Devices)
        {
            if (device.Kind == AttentionDeviceKind.Cpu)
            {
                RunCpu(device, Reference, gradients);
                continue;
            }
            foreach (TensorType type in cudaTypes)
            {
                RunCuda(device, type, gradients);
            }
        }
        if (devices.CudaAbsence is not null)
        {
            _rows.Add(VerificationRow.Missing("cuda", "-", "absent, for the reason given with the devices"));
        }
        return _rows;
    }

    private void CompareWithExpected(CaseResult forward, CaseResult? gradients)
    {
        const string Type = "F64";
        if (expected is null)
        {
            _rows.Add(new VerificationRow(
                "reference", Type, "out", null, null, forward.Time, Verdict.Absent, "no expected tensors beside the case"));
            return;
        }
        TimeSpan? forwardTime = forward.Time;
        TimeSpan? gradientTime = gradients?.Time;
        foreach ((string name, StoredTensor exact) in expected.Tensors.OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            bool isGradient = forward.Find(name) is null;
            StoredTensor? computed = forward.Find(name) ?? gradients?.Find(name);
            if (computed is null || !computed.Shape.SequenceEqual(exact.Shape))
            {
                string found = computed is null ? "not computed for this case" : $"computed with shape {Text.Shape(computed.Shape)}";
                _rows.Add(new VerificationRow(
                    "reference", Type, name, null, null, null, Verdict.Failed, $"expected with shape {Text.Shape(exact.Shape)}, {found}"));
                continue;
            }
            double[] values = given.Specified(exact);
            double relative = isGradient ? ReferenceGradientTolerance : ReferenceTolerance;
            double tolerance = exact.Type == TensorType.Int32 ? 0 : relative * Scale(name, values);
            _rows.Add(VerificationRow.Compare(
                "reference",
                Type,
                name,
                given.Specified(computed),
                values,
                tolerance,
                isGradient ? gradientTime : forwardTime,
                "against the expected file"));
            forwardTime = isGradient ? forwardTime : null;
            gradientTime = isGradient ? null : gradientTime;
        }
    }

    private void RunCpu(AttentionDevice device, CaseResult reference, CaseResult? referenceGradients)
    {
        const string Type = "F32";
        progress.Step($"{given.Name}: {device.Name}");
        CompareOutputs(
            given,
            device,
            Type,
            reference,
            exact => (Float32Allowed(exact.Name, given.Specified(exact), Float32Tolerance, reference), ""));
        if (referenceGradients is null)
        {
            return;
        }
        progress.Step($"{given.Name}: {device.Name}, backward");
        try
        {
            CaseResult computed = given.Backward(device);
            TimeSpan? time = computed.Time;
            foreach (StoredTensor exact in referenceGradients.Tensors)
            {
                double[] values = exact.ToDoubles();
                double tolerance = Float32Allowed(exact.Name, values, Float32GradientTolerance, referenceGradients);
                _rows.Add(VerificationRow.Compare(
                    device.Name, Type, exact.Name, computed.Find(exact.Name)!.ToDoubles(), values, tolerance, time));
                time = null;
            }
        }
        catch (NotSupportedException error)
        {
            _rows.Add(VerificationRow.Missing(device.Name, Type, error.Message));
        }
    }

    private void RunCuda(AttentionDevice device, TensorType type, CaseResult? referenceGradients)
    {
        string name = StoredTypes.Name(type);
        AttentionCase rounded = given.Rounded(type);
        CaseResult reference = Reference!;
        if (!ReferenceEquals(rounded, given))
        {
            progress.Step($"{given.Name}: reference of {name} inputs");
            reference = rounded.Forward(AttentionDevice.Reference);
            referenceGradients = null;
        }
        progress.Step($"{given.Name}: {device.Name} {name}");
        CompareOutputs(rounded, device, name, reference, exact => PlainTolerance(rounded, type, exact));
        if (rounded.HasOutputGradient)
        {
            progress.Step($"{given.Name}: {device.Name} {name}, backward");
            CompareCudaGradients(rounded, device, type, referenceGradients);
        }
    }

    private void CompareCudaGradients(AttentionCase rounded, AttentionDevice device, TensorType type, CaseResult? reference)
    {
        CaseResult computed;
        try
        {
            computed = rounded.Backward(device);
        }
        catch (NotSupportedException error)
        {
            _rows.Add(VerificationRow.Missing(device.Name, StoredTypes.Name(type), error.Message));
            return;
        }
        reference ??= rounded.Backward(AttentionDevice.Reference);
        IReadOnlyList<StoredTensor> plain = rounded.PlainGradients(type);
        TimeSpan? time = computed.Time;
        foreach (StoredTensor exact in reference.Tensors)
        {
            double[] values = exact.ToDoubles();
            double plainError = plain.FirstOrDefault(tensor => tensor.Name == exact.Name) is { } rough
                ? ErrorStatistics.Compare(rough.ToDoubles(), values).MaxAbsolute
                : 0;
            double floor = PlainEvaluation.Floor(values, type);
            _rows.Add(VerificationRow.Compare(
                device.Name,
                StoredTypes.Name(type),
                exact.Name,
                computed.Find(exact.Name)!.ToDoubles(),
                values,
                (PlainGradientFactor * plainError) + floor,
                time,
                $"3 x plain {Text.Number(plainError)} + floor {Text.Number(floor)}"));
            time = null;
        }
    }

    private void CompareOutputs(
        AttentionCase attentionCase,
        AttentionDevice device,
        string type,
        CaseResult reference,
        Func<StoredTensor, (double Tolerance, string Note)> tolerance)
    {
        CaseResult computed;
        try
        {
            computed = attentionCase.Forward(device);
        }
        catch (NotSupportedException error)
        {
            _rows.Add(VerificationRow.Missing(device.Name, type, error.Message));
            return;
        }
        TimeSpan? time = computed.Time;
        foreach (StoredTensor exact in reference.Tensors)
        {
            StoredTensor found = computed.Find(exact.Name)!;
            if (exact.Type == TensorType.Int32)
            {
                _rows.Add(CompareCounts(attentionCase, device.Name, type, found, exact, time));
            }
            else
            {
                (double allowed, string note) = tolerance(exact);
                _rows.Add(VerificationRow.Compare(
                    device.Name,
                    type,
                    exact.Name,
                    attentionCase.Specified(found),
                    attentionCase.Specified(exact),
                    allowed,
                    time,
                    note));
            }
            time = null;
        }
    }

    private static (double Tolerance, string Note) PlainTolerance(AttentionCase rounded, TensorType type, StoredTensor exact)
    {
        double[] values = rounded.Specified(exact);
        if (rounded.PlainOutput(exact.Name, type) is not { } plain)
        {
            return (Float32Tolerance * ErrorStatistics.Largest(values), "float32 on both sides");
        }
        double plainError = ErrorStatistics.Compare(plain.ToDoubles(), values).MaxAbsolute;
        double floor = PlainEvaluation.Floor(values, type);
        return ((PlainFactor * plainError) + floor, $"2 x plain {Text.Number(plainError)} + floor {Text.Number(floor)}");
    }

    private static VerificationRow CompareCounts(
        AttentionCase attentionCase, string device, string type, StoredTensor computed, StoredTensor exact, TimeSpan? time)
    {
        int[] found = (int[])computed.Values;
        int[] wanted = (int[])exact.Values;
        long differences = 0;
        bool unexplained = false;
        for (int index = 0; index < wanted.Length; index++)
        {
            int difference = Math.Abs(found[index] - wanted[index]);
            if (difference > 0)
            {
                differences += difference;
                unexplained |= difference > attentionCase.UndecidedKeys(exact.Name, index);
            }
        }
        long allowed = (long)Math.Ceiling(UndecidedShare * attentionCase.VisiblePairs);
        string note = differences == 0
            ? ""
            : $"{differences} keys differ ({(unexplained ? "not all" : "all")} within score rounding, {allowed} allowed)";
        ErrorStatistics error = ErrorStatistics.Compare(computed.ToDoubles(), exact.ToDoubles());
        Verdict verdict = unexplained || differences > allowed ? Verdict.Failed : Verdict.Passed;
        return new VerificationRow(device, type, exact.Name, error, 0, time, verdict, note);
    }

    /// <summary>
    /// What the rounding of a result is relative to: its largest magnitude, or the magnitude of its terms where the expected file
    /// records that they cancel.
    /// </summary>
    private double Scale(string name, double[] exact)
    {
        double largest = ErrorStatistics.Largest(exact);
        bool recorded = CaseNumber.TryParse(expected?.Metadata.GetValueOrDefault($"magnitude.{name}") ?? "", out double magnitude);
        return recorded ? Math.Max(largest, magnitude) : largest;
    }

    /// <summary>What a float32 device may be off by.</summary>
    private double Float32Allowed(string name, double[] exact, double relative, CaseResult pass)
    {
        double largest = pass.Tensors
            .Where(tensor => tensor.Type != TensorType.Int32)
            .SelectMany(tensor => tensor.ToDoubles())
            .Where(double.IsFinite)
            .Aggregate(0.0, (largest, value) => Math.Max(largest, Math.Abs(value)));
        double rounding = Math.Max(Float64Rounding * largest, Float32Rounding * ScoreTerms(name, pass));
        return Math.Max(relative * Scale(name, exact), rounding);
    }

    /// <summary>
    /// Gradients of alpha and of row factors are sums of ds_ij s_ij, times numbers of order 1, over all pairs of all heads, whose signs are
    /// mixed. Each term is right to a rounding of float32, however little is left of the sum: the magnitude of its parts, q_ic dq_ic.
    /// </summary>
    private double ScoreTerms(string name, CaseResult pass)
    {
        if (name is not ("dalpha" or "drow_s" or "drow_beta" or "drow_gamma"))
        {
            return 0;
        }
        double[] q = given.Inputs.Read<double>("q").Data;
        double[] dq = pass.Find("dq")!.ToDoubles();
        return q.Zip(dq, (x, dx) => Math.Abs(x * dx)).Sum();
    }
}
