using System.Globalization;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.CommandLine;
using SieveAttention.Cli.Output;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Commands;

/// <summary><c>sieve attend</c>: runs one case on one device.</summary>
internal sealed class AttendCommand : Command
{
    private const string DeviceOption = "--device";
    private const string BackwardOption = "--backward";
    private const string StatisticsOption = "--statistics";

    /// <summary>Pairs up to which statistics of the weights are shown without being asked for: about a second of work.</summary>
    private const long FewPairs = 1 << 24;

    /// <inheritdoc/>
    public override string Name => "attend";

    /// <inheritdoc/>
    public override string Summary => "Computes a case on one device and shows or writes the results.";

    /// <inheritdoc/>
    public override string Operands => "CASE";

    /// <inheritdoc/>
    public override IReadOnlyList<Option> Options { get; } =
    [
        new(DeviceOption, "DEVICE", "reference (float64), cpu (float32), cuda or cuda:N. Default: cpu."),
        new(OutputPath.OptionName, "FILE", "Write the results as safetensors (sieve-result/1); replaces FILE when all is done."),
        new(BackwardOption, null, "Also compute the gradients; the case needs the tensor 'dout'."),
        new(
            StatisticsOption,
            null,
            "Also show how the weights spread over the keys: zeros, support, share of key 0,\nentropy. "
            + "Without it they are shown for cases of at most 16.8 million visible\npairs. Computed in float64 on the CPU."),
        new(
            OperandType.OptionName,
            OperandType.Values,
            "Round queries, keys, values and the gradient of the output to this type first;\nneeded on cuda for cases that hold others."),
        CommandContext.ProgressSwitch,
    ];

    /// <inheritdoc/>
    public override string Notes =>
        "Results are F64 from the reference and F32 from other devices; counts are I32. The time is that of one pass on the\n"
        + "reference, and the median of five after a first one on the others (on a GPU in device time).";

    /// <inheritdoc/>
    protected override ExitCode Run(Arguments arguments, CommandContext context)
    {
        string path = arguments.SingleOperand("CASE");
        string? target = arguments.Value(OutputPath.OptionName) is string text ? OutputPath.Check(text, path) : null;
        TensorType? type = OperandType.Read(arguments);
        AttentionCase attentionCase = CaseFile.Read(path);
        bool backward = arguments.Has(BackwardOption);
        if (backward && !attentionCase.HasOutputGradient)
        {
            throw CaseException.At(
                path, attentionCase.OutputGradientNames, "no such tensor", $"the gradient of the output, which {BackwardOption} needs");
        }
        using AttentionDevice device = AttentionDevice.Parse(arguments.Value(DeviceOption) ?? "cpu");
        attentionCase = OperandType.Apply(attentionCase, type, device);

        List<CaseResult> results = [];
        using (Progress progress = context.StartProgress(arguments, backward ? 2 : 1))
        {
            progress.Step($"{attentionCase.Name}: {device.Name}");
            results.Add(attentionCase.Forward(device));
            if (backward)
            {
                progress.Step($"{attentionCase.Name}: {device.Name}, backward");
                results.Add(attentionCase.Backward(device));
            }
        }
        List<StoredTensor> tensors = [.. results.SelectMany(result => result.Tensors)];
        if (target is not null)
        {
            Dictionary<string, string> metadata = new()
            {
                ["format"] = "sieve-result/1",
                ["op"] = attentionCase.Operator,
                ["device"] = device.Name,
            };
            SafeTensorsWriter.Write(target, metadata, tensors);
        }
        WriteSummary(context.Out, attentionCase, device, results, arguments.Has(StatisticsOption));
        if (target is not null)
        {
            context.Out.WriteLine($"written to {target}");
        }
        return ExitCode.Ok;
    }

    private static void WriteSummary(
        TextWriter writer, AttentionCase attentionCase, AttentionDevice device, List<CaseResult> results, bool statistics)
    {
        writer.WriteLine($"{attentionCase.Operator}  {attentionCase.Dimensions}  {attentionCase.Inputs.OperandTypeNames()}");
        writer.WriteLine($"{attentionCase.Parameters}");
        string times = Text.Duration(results[0].Time) + (results.Count > 1 ? $", backward {Text.Duration(results[1].Time)}" : "");
        writer.WriteLine($"{device.Name}: {times}");
        if (attentionCase.Sparsity(results[0]) is { } sparsity)
        {
            writer.WriteLine(sparsity);
        }
        if (statistics || attentionCase.VisiblePairs <= FewPairs)
        {
            WriteStatistics(writer, attentionCase);
        }
        Table table = new Table("tensor", "dtype", "shape", "norm", "max abs", "zeros").AlignRight(3, 4, 5);
        foreach (StoredTensor tensor in results.SelectMany(result => result.Tensors))
        {
            double[] values = tensor.ToDoubles();
            double zeros = 100.0 * values.Count(value => value == 0) / values.Length;
            table.Add(
                tensor.Name,
                StoredTypes.Name(tensor.Type),
                Text.Shape(tensor.Shape),
                Text.Number(Math.Sqrt(values.Sum(value => value * value))),
                Text.Number(ErrorStatistics.Largest(values)),
                $"{zeros.ToString("0.0", CultureInfo.InvariantCulture)} %");
        }
        table.Write(writer);
    }

    private static void WriteStatistics(TextWriter writer, AttentionCase attentionCase)
    {
        if (attentionCase.WeightsAbsence is { } reason)
        {
            writer.WriteLine($"weights: {reason}");
            return;
        }
        foreach (string line in StatisticsText.Lines(AttentionStatistics.Of(attentionCase.Weights)))
        {
            writer.WriteLine(line);
        }
    }
}
