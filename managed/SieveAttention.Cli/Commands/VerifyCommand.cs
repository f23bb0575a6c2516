using SieveAttention.Cli.Cases;
using SieveAttention.Cli.CommandLine;
using SieveAttention.Cli.Output;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Commands;

/// <summary><c>sieve verify</c>: compares devices with the reference.</summary>
internal sealed class VerifyCommand : Command
{
    private const string DeviceOption = "--device";

    /// <inheritdoc/>
    public override string Name => "verify";

    /// <inheritdoc/>
    public override string Summary => "Compares every device with the float64 reference; exit code 1 beyond a tolerance.";

    /// <inheritdoc/>
    public override string Operands => "CASE...";

    /// <inheritdoc/>
    public override IReadOnlyList<Option> Options { get; } =
    [
        new(
            DeviceOption,
            "DEVICES",
            "Only these, such as cpu or cpu,cuda:1; one that cannot run a case is an error then.\n"
            + "Default: all that are present; for those that are not, the table says why."),
        new(OperandType.OptionName, OperandType.Values, "Run a GPU with this type only. Default: both."),
        CommandContext.ProgressSwitch,
    ];

    /// <inheritdoc/>
    public override string Notes =>
        "Tolerances, on the largest absolute error of a tensor:\n"
        + "  reference  1e-9 of the largest expected magnitude (gradients 1e-8), where X.expected.safetensors lies beside\n"
        + "             the case X.safetensors\n"
        + "  cpu        2e-4 of the largest exact magnitude (gradients 1e-3)\n"
        + "  cuda       twice the error (gradients three times) of a plain evaluation in the same 16-bit type with float32\n"
        + "             accumulation, plus\n"
        + "             2 max|(exact + .3) - .3 - exact| in that type; the reference sees the rounded inputs\n"
        + "             where the expected file gives magnitude.NAME, the size of the terms behind a result, it counts if larger\n"
        + "  counts     equal, but for keys whose score is within float32 rounding of the threshold";

    /// <inheritdoc/>
    protected override ExitCode Run(Arguments arguments, CommandContext context)
    {
        if (arguments.Operands.Count == 0)
        {
            throw new UsageException("CASE is missing");
        }
        IReadOnlyList<TensorType> cudaTypes = OperandType.Read(arguments) is { } type ? [type] : [TensorType.BFloat16, TensorType.Float16];
        // All input is read first: a mistake in the last file shows before minutes of work on the others.
        List<(AttentionCase Case, SafeTensorsFile? Expected)> cases =
            [.. CasePaths(arguments.Operands).Select(path => (CaseFile.Read(path), ReadExpected(path)))];
        string? names = arguments.Value(DeviceOption);
        using DeviceList devices = names is null ? DeviceList.All() : DeviceList.Named(names);

        List<(AttentionCase Case, Verifier Verifier, IReadOnlyList<VerificationRow> Rows)> results = [];
        int steps = cases.Sum(entry => (entry.Case.HasOutputGradient ? 2 : 1) * (1 + devices.Devices.Count));
        using (Progress progress = context.StartProgress(arguments, steps))
        {
            foreach ((AttentionCase attentionCase, SafeTensorsFile? expected) in cases)
            {
                Verifier verifier = new(attentionCase, expected, cudaTypes, progress);
                results.Add((attentionCase, verifier, verifier.Run(devices)));
            }
        }
        if (names is not null)
        {
            RefuseIdle(devices, results.SelectMany(result => result.Rows.Select(row => (result.Case, row))));
        }
        WriteDevices(context.Out, devices);
        foreach ((AttentionCase attentionCase, Verifier verifier, IReadOnlyList<VerificationRow> rows) in results)
        {
            Write(context.Out, attentionCase, verifier, rows);
        }
        List<VerificationRow> all = [.. results.SelectMany(result => result.Rows)];
        int failed = all.Count(row => row.Verdict == Verdict.Failed);
        int passed = all.Count(row => row.Verdict == Verdict.Passed);
        context.Out.WriteLine();
        context.Out.WriteLine($"{passed} tensors within tolerance, {failed} beyond");
        return failed == 0 ? ExitCode.Ok : ExitCode.VerificationFailed;
    }

    /// <summary>The operands without expected files of other operands: a pattern such as *.safetensors gives both.</summary>
    private static IEnumerable<string> CasePaths(IReadOnlyList<string> operands) =>
        operands.Where(path => !operands.Any(other => ExpectedPath(other) == path));

    private static string ExpectedPath(string path) => Path.ChangeExtension(path, ".expected" + Path.GetExtension(path));

    private static SafeTensorsFile? ReadExpected(string path) =>
        File.Exists(ExpectedPath(path)) ? SafeTensorsReader.Read(ExpectedPath(path)) : null;

    /// <summary>A device that somebody asked for must have computed something in every case.</summary>
    private static void RefuseIdle(DeviceList devices, IEnumerable<(AttentionCase Case, VerificationRow Row)> rows)
    {
        var idle = rows
            .Where(entry => devices.Devices.Any(device => device.Name == entry.Row.Device))
            .GroupBy(entry => (entry.Case, entry.Row.Device, entry.Row.Type))
            .FirstOrDefault(group => group.All(entry => entry.Row.Verdict == Verdict.Absent));
        if (idle is not null)
        {
            throw new UsageException($"{DeviceOption}: {idle.Key.Device} does not run {idle.Key.Case.File}: {idle.First().Row.Note}");
        }
    }

    private static void WriteDevices(TextWriter writer, DeviceList devices)
    {
        writer.WriteLine("devices");
        writer.WriteLine($"  {AttentionDevice.Reference.Describe()}");
        foreach (AttentionDevice device in devices.Devices)
        {
            writer.WriteLine($"  {device.Describe()}");
        }
        if (devices.CudaAbsence is { } reason)
        {
            writer.WriteLine($"  cuda: absent: {Text.OneLine(reason)}");
        }
    }

    private static void Write(TextWriter writer, AttentionCase attentionCase, Verifier verifier, IReadOnlyList<VerificationRow> rows)
    {
        writer.WriteLine();
        writer.WriteLine(
            $"{attentionCase.File}: {attentionCase.Operator}  {attentionCase.Dimensions}  {attentionCase.Inputs.OperandTypeNames()}");
        writer.WriteLine($"  {attentionCase.Parameters}");
        if (attentionCase.Sparsity(verifier.Reference!) is { } sparsity)
        {
            writer.WriteLine($"  {sparsity}");
        }
        Table table = new Table(
            "device", "dtype", "tensor", "max abs", "rms", "relative", "cosine dist", "tolerance", "time", "", "note")
            .AlignRight(3, 4, 5, 6, 7, 8);
        foreach (VerificationRow row in rows)
        {
            table.Add(
                row.Device,
                row.Type,
                row.Tensor,
                Number(row.Error?.MaxAbsolute),
                Number(row.Error?.Rms),
                Number(row.Error?.Relative),
                Number(row.Error?.CosineDistance),
                Number(row.Tolerance),
                row.Time is { } time ? Text.Duration(time) : "",
                row.Verdict switch { Verdict.Passed => "ok", Verdict.Failed => "FAIL", _ => "-" },
                row.Note);
        }
        table.Write(writer);
    }

    private static string Number(double? value) => value is { } number ? Text.Number(number) : "-";
}
