namespace SieveAttention.Cli.Benchmarks;

/// <summary>
/// Differential attention, second version: the query heads of the shape are pairs of a signal and a noise. Operations are those of attention of
/// all heads.
/// </summary>
internal sealed class GroupedDifferentialBench : BenchOperator
{
    /// <inheritdoc/>
    public override string Name => "diff_v2";

    /// <inheritdoc/>
    public override AttentionOperation Operation => AttentionOperation.GroupedDifferential;

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionDirection> Directions(AttentionDeviceKind device) =>
        [AttentionDirection.Forward, AttentionDirection.Backward];

    /// <inheritdoc/>
    public override IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device, AttentionDirection direction) =>
        device == AttentionDeviceKind.Cuda
            ? [new BenchShape(4, 32, 8, 4096, 4096, 128, 128), new BenchShape(1, 32, 8, 16384, 16384, 128, 128)]
            : [new BenchShape(1, 8, 2, 2048, 2048, 64, 64)];

    /// <inheritdoc/>
    public override BenchWork Work(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        double forward = shape.HeadDim + shape.ValueDim, backward = (3.0 * shape.HeadDim) + (2.0 * shape.ValueDim);
        double perPair = setup.Direction == AttentionDirection.Forward ? forward
            : RunsForward(setup) ? forward + backward
            : backward;
        return new BenchWork(2 * shape.VisiblePairs * perPair, 0);
    }

    /// <inheritdoc/>
    public override double SetBytes(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        return Bytes(setup, shape.Query, shape.Key, shape.Value, Half(shape.Output));
    }

    /// <inheritdoc/>
    public override string Note(BenchSetup setup) =>
        setup.Direction == AttentionDirection.Backward && RunsForward(setup) ? "one signal a noise; with the forward pass" : "one signal a noise";

    /// <inheritdoc/>
    public override BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets) => setup.Shape.QueryHeads % 2 == 0
        ? new Passes(setup, random, sets)
        : throw new NotSupportedException($"diff_v2 is measured in pairs of heads; found {setup.Shape.QueryHeads} query heads.");

    private static bool RunsForward(BenchSetup setup) => setup.Device.Kind != AttentionDeviceKind.Cuda;

    private static TensorShape Half(TensorShape shape) => shape with { Heads = shape.Heads / 2 };

    /// <summary>Forward, or backward; on a CUDA device after a forward that is not measured.</summary>
    private sealed class Passes : BenchCall
    {
        private sealed record Set(
            GroupedDifferentialInputs Inputs,
            GroupedDifferentialResult Result,
            AttentionTensor? OutputGradient,
            GroupedDifferentialGradients? Gradients);

        private readonly GroupedDifferentialAttention _attention;
        private readonly DeviceWorkspace? _workspace;
        private readonly List<Set> _sets = [];

        public Passes(BenchSetup setup, RandomTensors random, int sets)
        {
            BenchShape shape = setup.Shape;
            _attention = new(setup.Device, new GroupedDifferentialOptions { Mask = shape.Mask, Kernels = setup.Kernels });
            _workspace = setup.Device is CudaDevice cuda ? Own(new DeviceWorkspace(cuda)) : null;
            bool backward = setup.Direction == AttentionDirection.Backward;
            try
            {
                for (int set = 0; set < sets; set++)
                {
                    GroupedDifferentialInputs inputs = new()
                    {
                        Query = Own(random.Next(setup.Type, shape.Query)),
                        Key = Own(random.Next(setup.Type, shape.Key)),
                        Value = Own(random.Next(setup.Type, shape.Value)),
                        LambdaLogit = Own(random.Next(TensorType.Float32, Half(shape.Rows))),
                    };
                    bool onDevice = backward && _workspace is not null;
                    GroupedDifferentialResult result = Own(onDevice ? _attention.AllocateResult(inputs) : _attention.Forward(inputs));
                    if (onDevice)
                    {
                        _attention.Forward(inputs, result, workspace: _workspace);
                    }
                    _sets.Add(new Set(
                        inputs,
                        result,
                        backward ? Own(random.Next(setup.Type, Half(shape.Output))) : null,
                        onDevice ? Own(_attention.AllocateGradients(inputs)) : null));
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
