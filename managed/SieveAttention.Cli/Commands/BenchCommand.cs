using SieveAttention.Cli.Benchmarks;
using SieveAttention.Cli.CommandLine;
using SieveAttention.Cli.Output;

namespace SieveAttention.Cli.Commands;

/// <summary><c>sieve bench</c>: measures operators on one device, beside what the device reaches at most.</summary>
internal sealed class BenchCommand : Command
{
    private const string DeviceOption = "--device";
    private const string OperatorOption = "--operator";
    private const string DirectionOption = "--direction";
    private const string BatchOption = "--batch";
    private const string HeadsOption = "--heads";
    private const string KeyHeadsOption = "--key-heads";
    private const string QueriesOption = "--queries";
    private const string KeysOption = "--keys";
    private const string HeadDimOption = "--head-dim";
    private const string ValueDimOption = "--value-dim";
    private const string FullOption = "--full";
    private const string WindowOption = "--window";
    private const string PathOption = "--path";
    private const string BitwiseOption = "--bitwise";
    private const string RunsOption = "--runs";
    private const string JsonOption = "--json";

    private const int MostRuns = 10_000;

    private static readonly string[] s_shapeOptions =
    [
        BatchOption, HeadsOption, KeyHeadsOption, QueriesOption, KeysOption, HeadDimOption, ValueDimOption, FullOption, WindowOption,
    ];

    /// <inheritdoc/>
    public override string Name => "bench";

    /// <inheritdoc/>
    public override string Summary => "Measures operators on one device, beside what the device reaches at most.";

    /// <inheritdoc/>
    public override string Operands => "";

    /// <inheritdoc/>
    public override IReadOnlyList<Option> Options { get; } =
    [
        new(DeviceOption, "DEVICE", "cpu, cuda, cuda:N or reference. Default: cuda where a GPU is usable, else cpu."),
        new(OperatorOption, "NAMES", $"Such as softmax,tda. Default: {string.Join(",", BenchOperator.All.Select(subject => subject.Name))}."),
        new(DirectionOption, "NAMES", "Such as forward,backward,decode. Default: all that the operator has on the device."),
        new(BatchOption, "N", "Entries of the batch. One of the options from here to --window measures that one shape, in which\nthe others are those of the first default shape; without them several shapes are measured."),
        new(HeadsOption, "N", "Query heads; also the heads of keys and values where --key-heads is not given."),
        new(KeyHeadsOption, "N", "Heads of keys and values, a divisor of the query heads."),
        new(QueriesOption, "N", "Query rows; also the keys where --keys is not given, except in decode. They stand at the end."),
        new(KeysOption, "N", "Keys; also the query rows where --queries is not given, except in decode."),
        new(HeadDimOption, "N", "Channels of queries and keys; also of values where --value-dim is not given."),
        new(ValueDimOption, "N", "Channels of values."),
        new(FullOption, null, "Rows see all keys instead of those up to their position."),
        new(WindowOption, "N", "Rows see at most N keys up to their position."),
        new(OperandType.OptionName, OperandType.Values, "Type of the tensors on a GPU. Default: bf16. The CPU computes in float32."),
        new(PathOption, "NAME", "Family of kernels on a GPU: automatic, generic or hopper. Default: automatic."),
        new(BitwiseOption, null, "Gradients that repeat bit for bit, on a GPU."),
        new(RunsOption, "N", "Measured runs; the CPU stops a series after 3 seconds and 3 runs. Default: 30."),
        new(JsonOption, "FILE|-", "Also write one JSON object (sieve-bench/1) to FILE; with - to stdout, in place of the table."),
        CommandContext.ProgressSwitch,
    ];

    /// <inheritdoc/>
    public override string Notes =>
        "Inputs are random and take turns in sets that are together larger than the cache. Times are those of single calls, after\n"
        + "a warm-up: between two CUDA events on a GPU, on the host clock elsewhere. Spread is half the distance between the 10 %\n"
        + "and 90 % quantiles. Rates count the operations of matrix products over visible pairs (4 D a pair and head forward, 10 D\n"
        + "backward, for equal head_dim and value_dim; tda: 6 D and 16 D), in decode the bytes of the cache (tda: of the keys with their\n"
        + "norms, or of their images, which the note names). Ceilings are measured in the same run: a copy\n"
        + "within the device's memory, in bytes read and written, and a loop of matrix products of the tensors' type that stay on the\n"
        + "multiprocessors of a GPU, of fused multiply-adds on the CPU.";

    /// <inheritdoc/>
    protected override ExitCode Run(Arguments arguments, CommandContext context)
    {
        if (arguments.Operands.Count > 0)
        {
            throw new UsageException($"found the operand {Text.Quote(arguments.Operands[0])}; allowed: none");
        }
        string? json = arguments.Value(JsonOption);
        if (json is not null and not "-")
        {
            OutputPath.Check(json, input: null, JsonOption);
        }
        int runs = arguments.Integer(RunsOption, 30, 1, MostRuns);
        KernelOptions kernels = ReadKernels(arguments);
        TensorType? type = OperandType.Read(arguments);
        IReadOnlyList<BenchOperator> operators = ReadOperators(arguments);
        List<AttentionDirection>? directions = ReadDirections(arguments);

        using AttentionDevice device = Open(arguments, out string? cudaAbsence);
        TensorType operands = device.Kind == AttentionDeviceKind.Cuda ? type ?? TensorType.BFloat16 : TensorType.Float32;
        List<(BenchOperator Operator, BenchSetup Setup)> plan = [];
        foreach (BenchOperator subject in operators)
        {
            foreach (AttentionDirection direction in Directions(subject, device, directions, named: operators.Count < BenchOperator.All.Count))
            {
                IReadOnlyList<KeyScreen> screens = subject.Screens(device.Kind, direction);
                plan.AddRange(Shapes(arguments, subject, device, direction).SelectMany(shape => screens.Select(
                    screen => (subject, new BenchSetup(device, direction, shape, operands, kernels, screen)))));
            }
        }
        if (plan.Count == 0)
        {
            throw new UsageException($"{DirectionOption}: no operator has it on {device.Name}");
        }

        // Whoever asks for something by name wants to know that it cannot be had; the default list shows it as a row, and so does a shape or
        // a path that some of the operators have.
        bool required = arguments.Has(OperatorOption) || arguments.Has(DirectionOption);
        bool sized = s_shapeOptions.Any(arguments.Has) || arguments.Has(PathOption);
        BenchReport report;
        using (Progress progress = context.StartProgress(arguments, plan.Count + 1))
        using (BenchRunner runner = new(device, runs, progress))
        {
            BenchCeilings ceilings = runner.Ceilings(operands);
            List<BenchRow> rows = [.. plan.Select(row => runner.Measure(row.Operator, row.Setup, required))];
            if (sized && rows.TrueForAll(row => row.Timing is null))
            {
                throw new NotSupportedException(rows[0].Note);
            }
            report = new BenchReport(device, cudaAbsence, ceilings, rows);
        }
        if (json == "-")
        {
            context.Out.WriteLine(report.Json());
            return ExitCode.Ok;
        }
        report.WriteTable(context.Out);
        if (json is not null)
        {
            AtomicFile.Write(json, report.WriteJson);
            context.Out.WriteLine($"written to {json}");
        }
        return ExitCode.Ok;
    }

    private static AttentionDevice Open(Arguments arguments, out string? cudaAbsence)
    {
        cudaAbsence = null;
        if (arguments.Value(DeviceOption) is string name)
        {
            return AttentionDevice.Parse(name);
        }
        if (CudaDevice.IsAvailable(out string reason))
        {
            return AttentionDevice.Cuda();
        }
        cudaAbsence = reason;
        return AttentionDevice.Cpu;
    }

    private static IReadOnlyList<BenchOperator> ReadOperators(Arguments arguments) =>
        ReadNames(arguments, OperatorOption, BenchOperator.All, subject => subject.Name) ?? BenchOperator.All;

    private static List<AttentionDirection>? ReadDirections(Arguments arguments) => ReadNames(
        arguments, DirectionOption, Enum.GetValues<AttentionDirection>(), direction => direction.ToString().ToLowerInvariant());

    /// <summary>A list of names without repetition; null where the option was not given.</summary>
    private static List<T>? ReadNames<T>(Arguments arguments, string option, IReadOnlyList<T> known, Func<T, string> name)
    {
        if (arguments.Value(option) is not string text)
        {
            return null;
        }
        List<T> chosen = [];
        foreach (string part in text.Split(',').Distinct())
        {
            int index = known.Select(name).ToList().IndexOf(part);
            chosen.Add(index >= 0
                ? known[index]
                : throw new UsageException($"{option}: found {Text.Quote(part)}; allowed: {string.Join(", ", known.Select(name))}"));
        }
        return chosen;
    }

    private static KernelOptions ReadKernels(Arguments arguments)
    {
        string text = arguments.Value(PathOption) ?? "automatic";
        KernelPath path = text switch
        {
            "automatic" => KernelPath.Automatic,
            "generic" => KernelPath.Generic,
            "hopper" => KernelPath.Hopper,
            _ => throw new UsageException($"{PathOption}: found {Text.Quote(text)}; allowed: automatic, generic, hopper"),
        };
        return new KernelOptions
        {
            Path = path,
            Repeatability = arguments.Has(BitwiseOption) ? Repeatability.Bitwise : Repeatability.Fastest,
        };
    }

    private static IEnumerable<AttentionDirection> Directions(
        BenchOperator subject, AttentionDevice device, List<AttentionDirection>? asked, bool named)
    {
        IReadOnlyList<AttentionDirection> there = subject.Directions(device.Kind);
        if (asked is null)
        {
            return there;
        }
        AttentionDirection[] missing = [.. asked.Except(there)];
        return missing.Length == 0 || !named
            ? there.Where(asked.Contains)
            : throw new UsageException(
                $"{DirectionOption}: {subject.Name} {missing[0].ToString().ToLowerInvariant()} is not measured on {device.Name}; allowed: "
                + string.Join(", ", there.Select(direction => direction.ToString().ToLowerInvariant())));
    }

    private static IReadOnlyList<BenchShape> Shapes(
        Arguments arguments, BenchOperator subject, AttentionDevice device, AttentionDirection direction)
    {
        IReadOnlyList<BenchShape> shapes = subject.Shapes(device.Kind, direction);
        if (!s_shapeOptions.Any(arguments.Has))
        {
            return shapes;
        }
        const int Most = 1 << 24;
        BenchShape first = shapes[0];
        int heads = arguments.Integer(HeadsOption, first.QueryHeads, 1, 1 << 16);
        int keyHeads = arguments.Integer(KeyHeadsOption, arguments.Has(HeadsOption) ? heads : first.KeyHeads, 1, 1 << 16);
        if (heads % keyHeads != 0)
        {
            throw new UsageException($"{KeyHeadsOption}: found {keyHeads} and {heads} query heads; allowed: a divisor of them");
        }
        bool together = direction != AttentionDirection.Decode;
        int queries = arguments.Integer(
            QueriesOption, together ? arguments.Integer(KeysOption, first.Queries, 1, Most) : first.Queries, 1, Most);
        int keys = arguments.Integer(KeysOption, together && arguments.Has(QueriesOption) ? queries : first.Keys, 1, Most);
        if (direction == AttentionDirection.Decode && queries > keys)
        {
            throw new UsageException($"{QueriesOption}: found {queries} and {keys} keys; allowed in decode: at most as many rows as keys");
        }
        int headDim = arguments.Integer(HeadDimOption, first.HeadDim, 1, 4096);
        int valueDim = arguments.Integer(ValueDimOption, arguments.Has(HeadDimOption) ? headDim : first.ValueDim, 1, 4096);
        int window = arguments.Integer(WindowOption, 0, 1, int.MaxValue);
        return
        [
            new BenchShape(
                arguments.Integer(BatchOption, first.Batch, 1, 1 << 16),
                heads,
                keyHeads,
                queries,
                keys,
                headDim,
                valueDim,
                !arguments.Has(FullOption),
                window == 0 ? null : window),
        ];
    }
}
