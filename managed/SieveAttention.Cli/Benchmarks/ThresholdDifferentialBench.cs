namespace SieveAttention.Cli.Benchmarks;

/// <summary>
/// Threshold differential attention with two views, beta 1 and lambda 0.3, on random vectors: few keys survive. Operations are those of the
/// dense products, whatever is skipped.
/// </summary>
internal sealed class ThresholdDifferentialBench : BenchOperator
{
    internal const double Lambda = 0.3;

    /// <inheritdoc/>
    public override string Name => "tda";

    /// <inheritdoc/>
    public override AttentionOperation Operation => AttentionOperation.ThresholdDifferential;

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionDirection> Directions(AttentionDeviceKind device) =>
        [AttentionDirection.Forward, AttentionDirection.Backward, AttentionDirection.Decode];

    /// <inheritdoc/>
    public override IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device, AttentionDirection direction) =>
        direction == AttentionDirection.Decode ? ThresholdDecodeBench.Shapes(device)
            : device == AttentionDeviceKind.Cuda
            ? [new BenchShape(4, 16, 16, 4096, 4096, 64, 64), new BenchShape(1, 16, 16, 16384, 16384, 64, 64)]
            : [new BenchShape(1, 8, 8, 2048, 2048, 64, 64)];

    /// <inheritdoc/>
    public override IReadOnlyList<KeyScreen> Screens(AttentionDeviceKind device, AttentionDirection direction) =>
        device == AttentionDeviceKind.Cuda && direction == AttentionDirection.Decode ? Enum.GetValues<KeyScreen>() : [KeyScreen.None];

    /// <inheritdoc/>
    public override BenchWork Work(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        if (setup.Direction == AttentionDirection.Decode)
        {
            return ThresholdDecodeBench.Work(setup);
        }
        double perPair = setup.Direction == AttentionDirection.Forward
            ? (2.0 * shape.HeadDim) + shape.ValueDim
            : (6.0 * shape.HeadDim) + (2.0 * shape.ValueDim);
        return new BenchWork(2 * shape.VisiblePairs * perPair, 0);
    }

    /// <inheritdoc/>
    public override double SetBytes(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        return setup.Direction == AttentionDirection.Decode
            ? ThresholdDecodeBench.Work(setup).Bytes
            : Bytes(setup, shape.Query, shape.Query, shape.Key, shape.Key, shape.Value, shape.Output);
    }

    /// <inheritdoc/>
    public override string Note(BenchSetup setup) =>
        $"{(setup.Direction == AttentionDirection.Decode ? ThresholdDecodeBench.Note(setup) : "dense work")}; beta 1, lambda 0.3";

    /// <inheritdoc/>
    public override BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets) => setup.Direction == AttentionDirection.Decode
        ? ThresholdDecodeBench.Prepare(setup, random, sets)
        : new Passes(setup, random, sets);

    private sealed class Passes : BenchCall
    {
        private sealed record Set(
            ThresholdDifferentialInputs Inputs,
            ThresholdDifferentialResult Result,
            AttentionTensor? OutputGradient,
            ThresholdDifferentialGradients? Gradients);

        private readonly ThresholdDifferentialAttention _attention;
        private readonly DeviceWorkspace? _workspace;
        private readonly List<Set> _sets = [];

        public Passes(BenchSetup setup, RandomTensors random, int sets)
        {
            BenchShape shape = setup.Shape;
            _attention = new(
                setup.Device, new ThresholdDifferentialOptions { Lambda = Lambda, Mask = shape.Mask, Kernels = setup.Kernels });
            _workspace = setup.Device is CudaDevice cuda ? Own(new DeviceWorkspace(cuda)) : null;
            try
            {
                for (int set = 0; set < sets; set++)
                {
                    ThresholdDifferentialInputs inputs = new()
                    {
                        Query1 = Own(random.Next(setup.Type, shape.Query)),
                        Key1 = Own(random.Next(setup.Type, shape.Key)),
                        Query2 = Own(random.Next(setup.Type, shape.Query)),
                        Key2 = Own(random.Next(setup.Type, shape.Key)),
                        Value = Own(random.Next(setup.Type, shape.Value)),
                    };
                    bool backward = setup.Direction == AttentionDirection.Backward;
                    _sets.Add(new Set(
                        inputs,
                        Own(_attention.Forward(inputs)),
                        backward ? Own(random.Next(setup.Type, shape.Output)) : null,
                        backward && _workspace is not null ? Own(_attention.AllocateGradients(inputs)) : null));
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public override void Run(int set)
        {
            Set tensors = _sets[set];
            if (tensors.OutputGradient is not { } outputGradient)
            {
                _attention.Forward(tensors.Inputs, tensors.Result, workspace: _workspace);
            }
            else if (tensors.Gradients is { } gradients)
            {
                _attention.Backward(tensors.Inputs, tensors.Result, outputGradient, gradients, workspace: _workspace);
            }
            else
            {
                _attention.Backward(tensors.Inputs, outputGradient).Dispose();
            }
        }
    }
}
