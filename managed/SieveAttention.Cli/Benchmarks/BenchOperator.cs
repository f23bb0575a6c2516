namespace SieveAttention.Cli.Benchmarks;

/// <summary>How a call is to be measured.</summary>
/// <param name="Device">Where.</param>
/// <param name="Direction">What is computed.</param>
/// <param name="Shape">Sizes and mask.</param>
/// <param name="Type">Type of queries, keys and values; Float32 on the Cpu device.</param>
/// <param name="Kernels">Path and repeatability, on a CUDA device.</param>
/// <param name="Screen">Images of the keys that a decode step looks at first.</param>
internal sealed record BenchSetup(
    AttentionDevice Device,
    AttentionDirection Direction,
    BenchShape Shape,
    TensorType Type,
    KernelOptions Kernels,
    KeyScreen Screen = KeyScreen.None);

/// <summary>What a call amounts to.</summary>
/// <param name="Operations">Floating-point operations of its matrix products over visible pairs.</param>
/// <param name="Bytes">Bytes of a cache that a decode step has to read; 0 for the other directions.</param>
internal sealed record BenchWork(double Operations, double Bytes);

/// <summary>A call that is ready to run again and again on several sets of tensors.</summary>
internal abstract class BenchCall : IDisposable
{
    private readonly List<IDisposable> _owned = [];

    /// <summary>Runs the call on one set, without allocating device memory after the first run; asynchronous on a CUDA device.</summary>
    public abstract void Run(int set);

    /// <summary>Gives all tensors back.</summary>
    public void Dispose() => _owned.ForEach(owned => owned.Dispose());

    /// <summary>Keeps something until the end.</summary>
    protected T Own<T>(T owned)
        where T : IDisposable
    {
        _owned.Add(owned);
        return owned;
    }
}

/// <summary>An operator that can be measured. Adding one is a class and a line in the table below.</summary>
internal abstract class BenchOperator
{
    /// <summary>All of them, in the order of the table.</summary>
    public static IReadOnlyList<BenchOperator> All { get; } = 
        [new SoftmaxBench(), new ThresholdDifferentialBench(), new DifferentialBench(), new GroupedDifferentialBench()];

    /// <summary>Name on the command line: that of the case files.</summary>
    public abstract string Name { get; }

    /// <summary>The operator as devices are asked for it.</summary>
    public abstract AttentionOperation Operation { get; }

    /// <summary>Directions that it has on a kind of device.</summary>
    public abstract IReadOnlyList<AttentionDirection> Directions(AttentionDeviceKind device);

    /// <summary>Shapes that are measured when none is asked for.</summary>
    public abstract IReadOnlyList<BenchShape> Shapes(AttentionDeviceKind device, AttentionDirection direction);

    /// <summary>Screens that are measured one after the other; most operators have none.</summary>
    public virtual IReadOnlyList<KeyScreen> Screens(AttentionDeviceKind device, AttentionDirection direction) => [KeyScreen.None];

    /// <summary>What a call amounts to.</summary>
    public abstract BenchWork Work(BenchSetup setup);

    /// <summary>Bytes of the tensors of one set, as far as a call reads or writes them.</summary>
    public abstract double SetBytes(BenchSetup setup);

    /// <summary>Makes the tensors.</summary>
    /// <exception cref="NotSupportedException">The device does not run this.</exception>
    public abstract BenchCall Prepare(BenchSetup setup, RandomTensors random, int sets);

    /// <summary>What the numbers do not say; empty where there is nothing.</summary>
    public virtual string Note(BenchSetup setup) => "";

    /// <summary>Bytes of tensors of these shapes.</summary>
    protected static double Bytes(BenchSetup setup, params IEnumerable<TensorShape> shapes) =>
        shapes.Sum(shape => (double)shape.Count * TensorTypes.Size(setup.Type));
}
