namespace SieveAttention.Cli.Benchmarks;

/// <summary>Softmax attention.</summary>
internal sealed class SoftmaxBench : BenchOperator
{
    /// <inheritdoc/>
    public override string Name => "softmax";

    /// <inheritdoc/>
    public override AttentionOperation Operation => AttentionOperation.Softmax;

    /// <inheritdoc/>
    public override IReadOnlyList<AttentionDirection> Directions(AttentionDeviceKind device) =>
        [AttentionDirection.Forward, AttentionDirection.Backward, AttentionDirection.Decode];

    /// <inheritdoc/>
    public override IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device, AttentionDirection direction) => (device, direction) switch
    {
        (AttentionDeviceKind.Cuda, AttentionDirection.Decode) =>
        [
            new BenchShape(8, 32, 8, 1, 65536, 128, 128),
            new BenchShape(1, 32, 8, 1, 131072, 128, 128),
        ],
        (AttentionDeviceKind.Cuda, _) =>
        [
            new BenchShape(16, 16, 16, 1024, 1024, 128, 128),
            new BenchShape(4, 16, 16, 4096, 4096, 128, 128),
            new BenchShape(1, 16, 16, 16384, 16384, 128, 128),
            new BenchShape(1, 32, 32, 16384, 16384, 64, 64),
        ],
        (_, AttentionDirection.Decode) => [new BenchShape(4, 8, 2, 1, 16384, 64, 64)],
        _ => [new BenchShape(1, 8, 8, 2048, 2048, 64, 64)],
    };

    /// <inheritdoc/>
    public override BenchWork Work(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        double forward = 2 * shape.VisiblePairs * (shape.HeadDim + shape.ValueDim);
        double backward = 2 * shape.VisiblePairs * ((3.0 * shape.HeadDim) + (2.0 * shape.ValueDim));
        return setup.Direction switch
        {
            AttentionDirection.Forward => new BenchWork(forward, 0),
            AttentionDirection.Backward => new BenchWork(RunsForward(setup) ? forward + backward : backward, 0),
            _ => new BenchWork(forward, Bytes(setup, shape.Key, shape.Value)),
        };
    }

    /// <inheritdoc/>
    public override double SetBytes(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        double forward = Bytes(setup, shape.Query, shape.Key, shape.Value, shape.Output);
        return setup.Direction == AttentionDirection.Backward ? 2 * forward : forward;
    }

    /// <inheritdoc/>
    public override string Note(BenchSetup setup) =>
        setup.Direction == AttentionDirection.Backward && RunsForward(setup) ? "with the forward pass" : "";

    /// <inheritdoc/>
    public override BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets) => setup.Direction switch
    {
        AttentionDirection.Decode when setup.Device is CudaDevice cuda => new DeviceDecode(setup, cuda, random, sets),
        AttentionDirection.Decode => new HostDecode(setup, random, sets),
        _ => new Passes(setup, random, sets),
    };

    private static bool RunsForward(BenchSetup setup) => setup.Device.Kind != AttentionDeviceKind.Cuda;

    private static SoftmaxAttention Operator(BenchSetup setup) =>
        new(setup.Device, new SoftmaxOptions { Mask = setup.Shape.Mask, Kernels = setup.Kernels });

    /// <summary>Forward, or backward after a forward that is not measured.</summary>
    private sealed class Passes : BenchCall
    {
        private sealed record Set(AttentionInputs Inputs, SoftmaxResult Result, AttentionTensor? OutputGradient, AttentionGradients? Gradients);

        private readonly SoftmaxAttention _attention;
        private readonly DeviceWorkspace? _workspace;
        private readonly List<Set> _sets = [];

        public Passes(BenchSetup setup, RandomTensors random, int sets)
        {
            _attention = Operator(setup);
            _workspace = setup.Device is CudaDevice cuda ? Own(new DeviceWorkspace(cuda)) : null;
            BenchShape shape = setup.Shape;
            try
            {
                for (int set = 0; set < sets; set++)
                {
                    AttentionInputs inputs = new()
                    {
                        Query = Own(random.Next(setup.Type, shape.Query)),
                        Key = Own(random.Next(setup.Type, shape.Key)),
                        Value = Own(random.Next(setup.Type, shape.Value)),
                    };
                    SoftmaxResult result = Own(_attention.Forward(inputs));
                    bool backward = setup.Direction == AttentionDirection.Backward;
                    _sets.Add(new Set(
                        inputs,
                        result,
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
            if (tensors.OutputGradient is null)
            {
                _attention.Forward(tensors.Inputs, tensors.Result, workspace: _workspace);
            }
            else if (tensors.Gradients is { } gradients)
            {
                _attention.Backward(tensors.Inputs, tensors.Result, tensors.OutputGradient, gradients, workspace: _workspace);
            }
            else
            {
                _attention.Backward(tensors.Inputs, tensors.OutputGradient).Dispose();
            }
        }
    }

    /// <summary>A decode step against a contiguous cache in device memory.</summary>
    private sealed class DeviceDecode : BenchCall
    {
        private sealed record Set(DecodeInputs Inputs, CachedKeys Cache, SoftmaxResult Result);

        private readonly SoftmaxAttention _attention;
        private readonly DeviceWorkspace _workspace;
        private readonly List<Set> _sets = [];

        public DeviceDecode(BenchSetup setup, CudaDevice device, RandomTensors random, int sets)
        {
            _attention = Operator(setup);
            _workspace = Own(new DeviceWorkspace(device));
            BenchShape shape = setup.Shape;
            try
            {
                int[] lengths = [.. Enumerable.Repeat(shape.Keys, shape.Batch)];
                AttentionTensor keyLengths = Own(device.Upload(lengths, new TensorShape(1, 1, 1, shape.Batch)));
                for (int set = 0; set < sets; set++)
                {
                    _sets.Add(new Set(
                        new DecodeInputs { Query = Own(random.Next(setup.Type, shape.Query)) },
                        new CachedKeys
                        {
                            Key = Own(random.Next(setup.Type, shape.Key)),
                            Value = Own(random.Next(setup.Type, shape.Value)),
                            Lengths = keyLengths,
                        },
                        Own(new SoftmaxResult(
                            AttentionTensor.Allocate(setup.Type, shape.Output, device),
                            AttentionTensor.Allocate(TensorType.Float32, shape.Rows, device)))));
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public override void Run(int set) =>
            _attention.Decode(_sets[set].Inputs, _sets[set].Cache, _sets[set].Result, workspace: _workspace);
    }

    /// <summary>A decode step against a contiguous cache in host memory.</summary>
    private sealed class HostDecode : BenchCall
    {
        private readonly SoftmaxAttention _attention;
        private readonly List<(DecodeInputs Inputs, KeyValueCache Cache)> _sets = [];

        public HostDecode(BenchSetup setup, RandomTensors random, int sets)
        {
            _attention = Operator(setup);
            BenchShape shape = setup.Shape;
            for (int set = 0; set < sets; set++)
            {
                KeyValueCache cache = KeyValueCache.Contiguous(
                    new KeyValueCacheLayout(shape.Batch, shape.KeyHeads, shape.HeadDim, shape.ValueDim), shape.Keys);
                using AttentionTensor key = random.Next(setup.Type, shape.Key);
                using AttentionTensor value = random.Next(setup.Type, shape.Value);
                cache.Append(key, value);
                _sets.Add((new DecodeInputs { Query = Own(random.Next(setup.Type, shape.Query)) }, cache));
            }
        }

        public override void Run(int set) => _attention.Decode(_sets[set].Inputs, _sets[set].Cache).Dispose();
    }
}
