namespace SieveAttention.Cli.Benchmarks;

/// <summary>
/// A decode step of threshold differential attention with two views over a contiguous cache of random keys: hardly any survives, so that the
/// keys, or their images, are what is read.
/// </summary>
internal static class ThresholdDecodeBench
{
    private const int Views = 2;

    public static IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device) => device == AttentionDeviceKind.Cuda
        ?
        [
            new BenchShape(8, 32, 8, 1, 65536, 64, 64),
            new BenchShape(8, 32, 8, 1, 65536, 128, 128),
            new BenchShape(1, 32, 8, 1, 131072, 128, 128),
        ]
        : [new BenchShape(4, 8, 2, 1, 16384, 64, 64)];

    public static BenchWork Work(BenchSetup setup)
    {
        BenchShape shape = setup.Shape;
        double keys = (double)shape.Batch * shape.KeyHeads * shape.Keys * Views;
        double bytes = ReadsImages(setup)
            ? keys * sizeof(int) * CachedThresholdKeys.ImageWords(setup.Screen, shape.HeadDim) / CachedThresholdKeys.KeysOfImage
            : keys * ((shape.HeadDim * TensorTypes.Size(setup.Type)) + sizeof(float));
        return new BenchWork(2 * shape.VisiblePairs * ((2.0 * shape.HeadDim) + shape.ValueDim), bytes);
    }

    public static string Note(BenchSetup setup) =>
        setup.Screen == KeyScreen.None ? "keys"
            : !ReadsImages(setup) ? "keys, too many rows for images"
            : setup.Screen == KeyScreen.FourBits ? "images of 4 bits" : "images of 8 bits";

    public static BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets) =>
        setup.Device is CudaDevice cuda ? new OnDevice(setup, cuda, random, sets) : new OnHost(setup, random, sets);

    private static bool ReadsImages(BenchSetup setup) => CachedThresholdKeys.ReadsImages(
        setup.Screen, (long)setup.Shape.Queries * setup.Shape.QueryHeads / setup.Shape.KeyHeads);

    private static ThresholdDifferentialAttention Operator(BenchSetup setup) => new(
        setup.Device,
        new ThresholdDifferentialOptions
        {
            Lambda = ThresholdDifferentialBench.Lambda, Mask = setup.Shape.Mask, Kernels = setup.Kernels,
        });

    private sealed class OnDevice : BenchCall
    {
        private sealed record Set(
            ThresholdDifferentialDecodeInputs Inputs, CachedThresholdKeys Cache, ThresholdDifferentialResult Result);

        private readonly ThresholdDifferentialAttention _attention;
        private readonly DeviceWorkspace _workspace;
        private readonly List<Set> _sets = [];

        public OnDevice(BenchSetup setup, CudaDevice device, RandomTensors random, int sets)
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
                    CachedThresholdKeys cache = Cache(setup, device, random) with { Lengths = keyLengths };
                    cache.Describe(shape.Keys);
                    _sets.Add(new Set(
                        new ThresholdDifferentialDecodeInputs
                        {
                            Query1 = Own(random.Next(setup.Type, shape.Query)), Query2 = Own(random.Next(setup.Type, shape.Query)),
                        },
                        cache,
                        Own(new ThresholdDifferentialResult(
                            AttentionTensor.Allocate(setup.Type, shape.Output, device),
                            AttentionTensor.Allocate(TensorType.Int32, shape.Rows, device)))));
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

        private CachedThresholdKeys Cache(BenchSetup setup, CudaDevice device, RandomTensors random)
        {
            BenchShape shape = setup.Shape;
            TensorShape norms = shape.Key with { Channels = 1 };
            TensorShape images = shape.Key with
            {
                Rows = (shape.Keys + CachedThresholdKeys.KeysOfImage - 1) / CachedThresholdKeys.KeysOfImage,
                Channels = CachedThresholdKeys.ImageWords(setup.Screen, shape.HeadDim),
            };
            bool screened = setup.Screen != KeyScreen.None;
            return new CachedThresholdKeys
            {
                Key1 = Own(random.Next(setup.Type, shape.Key)),
                Key2 = Own(random.Next(setup.Type, shape.Key)),
                Value = Own(random.Next(setup.Type, shape.Value)),
                InverseNorms1 = Own(AttentionTensor.Allocate(TensorType.Float32, norms, device)),
                InverseNorms2 = Own(AttentionTensor.Allocate(TensorType.Float32, norms, device)),
                Screen = setup.Screen,
                Images1 = screened ? Own(AttentionTensor.Allocate(TensorType.Int32, images, device)) : null,
                Images2 = screened ? Own(AttentionTensor.Allocate(TensorType.Int32, images, device)) : null,
            };
        }
    }

    private sealed class OnHost : BenchCall
    {
        private readonly ThresholdDifferentialAttention _attention;
        private readonly List<(ThresholdDifferentialDecodeInputs Inputs, KeyValueCache Cache)> _sets = [];

        public OnHost(BenchSetup setup, RandomTensors random, int sets)
        {
            _attention = Operator(setup);
            BenchShape shape = setup.Shape;
            for (int set = 0; set < sets; set++)
            {
                KeyValueCache cache = KeyValueCache.Contiguous(
                    new KeyValueCacheLayout(shape.Batch, shape.KeyHeads, shape.HeadDim, shape.ValueDim) { Views = Views }, shape.Keys);
                using AttentionTensor key1 = random.Next(setup.Type, shape.Key);
                using AttentionTensor key2 = random.Next(setup.Type, shape.Key);
                using AttentionTensor value = random.Next(setup.Type, shape.Value);
                cache.Append(key1, value, key2);
                ThresholdDifferentialDecodeInputs inputs = new()
                {
                    Query1 = Own(random.Next(setup.Type, shape.Query)), Query2 = Own(random.Next(setup.Type, shape.Query)),
                };
                _sets.Add((inputs, cache));
            }
        }

        public override void Run(int set) => _attention.Decode(_sets[set].Inputs, _sets[set].Cache).Dispose();
    }
}
