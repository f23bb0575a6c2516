namespace SieveAttention.Cli.Benchmarks;

/// <summary>
/// Differential attention, first version, lambda 0.3, with a norm. Operations are those of a kernel that shares what both views have in common
/// (backward: the products of gradients with values), whatever is computed.
/// </summary>
internal sealed class DifferentialBench : BenchOperator
{
    private const double Lambda = 0.3;

    private static readonly OutputEpilogue s_norm = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-5, OutputScale = 0.7 };

    /// <inheritdoc/>
    public override string Name => "diff";

    /// <inheritdoc/>
    public override AttentionOperation Operation => AttentionOperation.Differential;

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionDirection> Directions(AttentionDeviceKind device) =>
        [AttentionDirection.Forward, AttentionDirection.Backward];

    /// <inheritdoc/>
    public override IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device, AttentionDirection direction) =>
        device == AttentionDeviceKind.Cuda
            ? [new BenchShape(4, 16, 16, 4096, 4096, 64, 128), new BenchShape(1, 16, 16, 16384, 16384, 64, 128)]
            : [new BenchShape(1, 8, 8, 2048, 2048, 64, 128)];

    /// <inheritdoc/>
    public override BenchWork Work(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        double forward = (2.0 * shape.HeadDim) + (2.0 * shape.ValueDim);
        double backward = (6.0 * shape.HeadDim) + (2.0 * shape.ValueDim);
        double perPair = setup.Direction == AttentionDirection.Forward ? forward
            : RunsForward(setup) ? forward + backward
            : backward;
        return new BenchWork(2 * shape.VisiblePairs * perPair, 0);
    }

    /// <inheritdoc/>
    public override double SetBytes(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        return Bytes(setup, shape.Query, shape.Query, shape.Key, shape.Key, shape.Value, shape.Output);
    }

    /// <inheritdoc/>
    public override string Note(BenchSetup setup) =>
        setup.Direction == AttentionDirection.Backward && RunsForward(setup) ? "lambda 0.3; with the forward pass" : "lambda 0.3";

    /// <inheritdoc/>
    public override BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets) => new Passes(setup, random, sets);

    private static bool RunsForward(BenchSetup setup) => setup.Device.Kind != AttentionDeviceKind.Cuda;

    /// <summary>Forward, or backward; on a CUDA device after a forward that is not measured.</summary>
    private sealed class Passes : BenchCall
    {
        private sealed record Set(
            DifferentialInputs Inputs, DifferentialResult Result, AttentionTensor? OutputGradient, DifferentialGradients? Gradients);

        private readonly DifferentialAttention _attention;
        private readonly DeviceWorkspace? _workspace;
        private readonly List<Set> _sets = [];

        public Passes(BenchSetup setup, RandomTensors random, int sets)
        {
            BenchShape shape = setup.Shape;
            _attention = new(
                setup.Device,
                new DifferentialOptions { Lambda = [Lambda], Mask = shape.Mask, Epilogue = s_norm, Kernels = setup.Kernels });
            _workspace = setup.Device is CudaDevice cuda ? Own(new DeviceWorkspace(cuda)) : null;
            bool backward = setup.Direction == AttentionDirection.Backward;
            try
            {
                for (int set = 0; set < sets; set++)
                {
                    DifferentialInputs inputs = new()
                    {
                        Query1 = Own(random.Next(setup.Type, shape.Query)),
                        Key1 = Own(random.Next(setup.Type, shape.Key)),
                        Query2 = Own(random.Next(setup.Type, shape.Query)),
                        Key2 = Own(random.Next(setup.Type, shape.Key)),
                        Value = Own(random.Next(setup.Type, shape.Value)),
                    };
                    bool onDevice = backward && _workspace is not null;
                    DifferentialResult result = Own(onDevice ? _attention.AllocateResult(inputs) : _attention.Forward(inputs));
                    if (onDevice)
                    {
                        _attention.Forward(inputs, result, workspace: _workspace);
                    }
                    _sets.Add(new Set(
                        inputs,
                        result,
                        backward ? Own(random.Next(setup.Type, shape.Output)) : null,
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
