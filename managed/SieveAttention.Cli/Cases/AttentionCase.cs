using System.Numerics.Tensors;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases;

/// <summary>One parsed case: an operator with its parameters and inputs, ready to run on any device.</summary>
internal abstract class AttentionCase
{
    private AttentionWeights? _weights;

    /// <summary>Makes a case.</summary>
    protected AttentionCase(string file, AttentionProblem problem, CaseInputs inputs)
    {
        File = file;
        Problem = problem;
        Inputs = inputs;
    }

    /// <summary>Path of the case.</summary>
    public string File { get; }

    /// <summary>File name without folder and extension.</summary>
    public string Name => Path.GetFileNameWithoutExtension(File);

    /// <summary>The value of the key <c>op</c>.</summary>
    public abstract string Operator { get; }

    /// <summary>Parameters of the operator that differ from their defaults, or all that matter, on one line.</summary>
    public abstract string Parameters { get; }

    /// <summary>Dimensions and masks.</summary>
    public AttentionProblem Problem { get; }

    /// <summary>The tensors.</summary>
    public CaseInputs Inputs { get; }

    /// <summary>Whether the case has what a backward pass needs.</summary>
    public virtual bool HasOutputGradient => Inputs.Has("dout");

    /// <summary>What a backward pass needs, for messages.</summary>
    public virtual string OutputGradientNames => "tensor 'dout'";

    /// <summary>Why there are no weights: the output of this case is no weighted sum of one set of values; null where there are.</summary>
    public virtual string? WeightsAbsence => null;

    /// <summary>The weights of all heads, in float64.</summary>
    public AttentionWeights Weights => _weights ??= ReadWeights();

    /// <summary>Dimensions and mask on one line.</summary>
    public string Dimensions
    {
        get
        {
            string heads = Problem.QueryHeads == Problem.KeyHeads
                ? $"H {Problem.QueryHeads}"
                : $"Hq {Problem.QueryHeads}  Hkv {Problem.KeyHeads}";
            string rows = Problem.Queries == Problem.Keys ? $"T {Problem.Keys}" : $"Tq {Problem.Queries}  Tk {Problem.Keys}";
            string channels = Problem.HeadDim == Problem.ValueDim ? $"D {Problem.HeadDim}" : $"D {Problem.HeadDim}  Dv {Problem.ValueDim}";
            string mask = (Problem.Causal ? "causal" : "not causal") + (Problem.Window > 0 ? $"  window {Problem.Window}" : "")
                + (Problem.QueryOffset == Problem.Keys - Problem.Queries ? "" : $"  query_offset {Problem.QueryOffset}");
            return $"B {Problem.Batch}  {heads}  {rows}  {channels}  {mask}";
        }
    }

    /// <summary>Pairs of a query row and a key that it sees, over all heads.</summary>
    public long VisiblePairs
    {
        get
        {
            AttentionProblem problem = Problem;
            long pairs = Enumerable.Range(0, problem.Queries).Sum(row => (long)problem.Visible(row).Count);
            return pairs * problem.Batch * problem.QueryHeads;
        }
    }

    /// <summary>The same case with its operands and upstream gradient rounded to a type.</summary>
    public AttentionCase Rounded(TensorType type) => Inputs.AreRounded(type) ? this : With(Inputs.Rounded(type));

    /// <summary>Computes the outputs on a device.</summary>
    /// <exception cref="NotSupportedException">The device does not run this operator or these sizes.</exception>
    public abstract CaseResult Forward(AttentionDevice device);

    /// <summary>Computes the gradients on a device.</summary>
    /// <exception cref="NotSupportedException">The device has no backward pass of this operator.</exception>
    public abstract CaseResult Backward(AttentionDevice device);

    /// <summary>
    /// An output as a plain implementation gives it that holds its operands, weights and output in a type of 16 bits and accumulates
    /// in float32: the yardstick for kernels of that type. Null for results that are no weighted sums of values.
    /// </summary>
    public virtual StoredTensor? PlainOutput(string name, TensorType type)
    {
        AttentionCase rounded = Rounded(type);
        if (rounded.WeightsOf(name) is not { } weights)
        {
            return null;
        }
        float[] output = PlainEvaluation.Run(
            type,
            Problem with { QueryHeads = weights.Heads },
            (batch, head, row, target) =>
            {
                double[] exact = new double[weights.Keys];
                weights.Row(batch, head, row, exact);
                TensorPrimitives.ConvertTruncating<double, float>(exact, target);
            },
            rounded.Inputs.Read<float>("v"),
            PlainEpilogue);
        return new StoredTensor(name, OutputShape, output);
    }

    /// <summary>
    /// The gradients as such an implementation gives them, under the names of <see cref="Backward"/>; empty for operators whose gradients
    /// no kernel computes.
    /// </summary>
    public virtual IReadOnlyList<StoredTensor> PlainGradients(TensorType type) => [];

    /// <summary>
    /// How many keys of a row a device may count differently in an integer output, because their decision hangs on less than
    /// the rounding of a float32 score.
    /// </summary>
    /// <param name="output">Name of the output.</param>
    /// <param name="index">Place of the row in the output, row-major.</param>
    public virtual int UndecidedKeys(string output, int index) => 0;

    /// <summary>The values of a result, with 0 in place of those that the operator leaves open.</summary>
    public virtual double[] Specified(StoredTensor tensor) => tensor.ToDoubles();

    /// <summary>Says in one line how sparse the result of a forward pass is; null for operators without zeros.</summary>
    public virtual string? Sparsity(CaseResult forward) => null;

    /// <summary>The same case with other inputs.</summary>
    protected abstract AttentionCase With(CaseInputs inputs);

    /// <summary>Makes the weights from the inputs as they stand.</summary>
    protected abstract AttentionWeights ReadWeights();

    /// <summary>The weights that give an output, or null for results that are no weighted sums of values.</summary>
    protected virtual AttentionWeights? WeightsOf(string output) => output == "out" ? Weights : null;

    /// <summary>Heads of the output.</summary>
    protected virtual int OutputHeads => Problem.QueryHeads;

    /// <summary>Shape of results with one value for each query row and head.</summary>
    protected int[] RowShape => [Problem.Batch, Problem.QueryHeads, Problem.Queries];

    /// <summary>Shape of the output.</summary>
    protected int[] OutputShape => [Problem.Batch, OutputHeads, Problem.Queries, Problem.ValueDim];

    /// <summary>Norm and output scale; none for most operators.</summary>
    protected virtual OutputEpilogue Epilogue { get; } = new();

    /// <summary>The epilogue with its tensors, in float32.</summary>
    protected PlainEpilogue PlainEpilogue => new(
        Epilogue,
        Inputs.Has("norm_gain") ? Inputs.Read<float>("norm_gain").Data : null,
        Inputs.Has("gate") ? Inputs.Read<float>("gate").Data : null);

    /// <summary>Runs and measures a pass and stores what it gave.</summary>
    protected static CaseResult Run<T>(AttentionDevice device, Func<T> first, Action<T> again, Func<T, IEnumerable<StoredTensor>> store)
        where T : IDisposable
    {
        (T result, TimeSpan time) = CaseTiming.Measure(device, first, again);
        using (result)
        {
            return new CaseResult([.. store(result)], time);
        }
    }

    /// <summary>Stores gradients, where there are any, under the names and in the shapes of the inputs.</summary>
    protected IEnumerable<StoredTensor> StoreGradients(
        AttentionDevice device, params IEnumerable<(string Name, AttentionTensor? Gradient)> gradients) =>
        gradients.Where(entry => entry.Gradient is not null).Select(
            entry => CaseResult.Store($"d{entry.Name}", entry.Gradient!, Inputs.Find(entry.Name)!.Shape, device));
}
