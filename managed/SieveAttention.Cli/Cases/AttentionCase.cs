using SieveAttention.Cli.Pictures;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Cli.Cases;

/// <summary>One parsed case: an operator with its parameters and inputs, ready to run on any device.</summary>
internal abstract class AttentionCase
{
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
    public abstract bool HasOutputGradient { get; }

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

    /// <summary>The same case with its operands rounded to a type.</summary>
    public AttentionCase Rounded(TensorType type) => Inputs.OperandType() == type ? this : With(Inputs.Rounded(type));

    /// <summary>Computes the outputs on a device.</summary>
    /// <exception cref="NotSupportedException">The device does not run this operator or these sizes.</exception>
    public abstract CaseResult Forward(AttentionDevice device);

    /// <summary>Computes the gradients on a device.</summary>
    /// <exception cref="NotSupportedException">The device has no backward pass of this operator.</exception>
    public abstract CaseResult Backward(AttentionDevice device);

    /// <summary>
    /// The output <c>out</c> as a plain implementation gives it that holds its operands, weights and output in a type of 16 bits
    /// and accumulates in float32: the yardstick for kernels of that type.
    /// </summary>
    public abstract StoredTensor PlainOutput(TensorType type);

    /// <summary>The weights of a head, in float64.</summary>
    public abstract IWeightSource Weights(int batch, int head);

    /// <summary>
    /// How many keys of a row a device may count differently in an integer output, because their decision hangs on less than
    /// the rounding of a float32 score.
    /// </summary>
    /// <param name="output">Name of the output.</param>
    /// <param name="index">Place of the row in the output, row-major.</param>
    public abstract int UndecidedKeys(string output, int index);

    /// <summary>Says in one line how sparse the result of a forward pass is.</summary>
    public abstract string Sparsity(CaseResult forward);

    /// <summary>The same case with other inputs.</summary>
    protected abstract AttentionCase With(CaseInputs inputs);
}
