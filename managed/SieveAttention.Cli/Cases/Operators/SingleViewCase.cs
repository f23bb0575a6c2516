namespace SieveAttention.Cli.Cases.Operators;

/// <summary>
/// A case of an operator with one view of queries and keys: tensors <c>q</c>, <c>k</c>, <c>v</c>, <c>gate</c>, <c>dout</c>.
/// </summary>
internal abstract class SingleViewCase(string file, AttentionProblem problem, CaseInputs inputs) : AttentionCase(file, problem, inputs)
{
    /// <summary>Reads the tensors of such an operator.</summary>
    /// <param name="file">Name of the case.</param>
    /// <param name="tensors">Its tensors.</param>
    /// <param name="mask">Which keys rows see.</param>
    /// <param name="gradient">Name of the upstream gradient; null where the operator has several.</param>
    public static (AttentionProblem Problem, CaseInputs Inputs) Read(
        string file, CaseTensors tensors, AttentionMask mask, string? gradient = "dout")
    {
        AttentionProblem problem = CommonParts.ReadView(tensors, "q", "k", "v", mask);
        int[] outputShape = [problem.Batch, problem.QueryHeads, problem.Queries, problem.ValueDim];
        CaseInputs inputs = new(file);
        inputs.AddOperand(tensors.Required("q", [problem.Batch, problem.QueryHeads, problem.Queries, problem.HeadDim]));
        inputs.AddOperand(tensors.Required("k", [problem.Batch, problem.KeyHeads, problem.Keys, problem.HeadDim]));
        inputs.AddOperand(tensors.Required("v", [problem.Batch, problem.KeyHeads, problem.Keys, problem.ValueDim]));
        inputs.AddOther(tensors.Optional("gate", outputShape[..3]));
        if (gradient is not null)
        {
            inputs.AddGradient(tensors.Optional(gradient, outputShape));
        }
        return (problem, inputs);
    }

    /// <summary>The tensors as the operator takes them.</summary>
    protected static AttentionInputs OperatorInputs(LoadedTensors loaded) => new()
    {
        Query = loaded["q"],
        Key = loaded["k"],
        Value = loaded["v"],
        Gate = loaded.Optional("gate"),
    };

    /// <summary>Runs and measures a backward pass.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="backward">The pass.</param>
    /// <param name="further">Stores gradients that only this operator has.</param>
    protected CaseResult Backward<T>(
        AttentionDevice device, Func<AttentionInputs, AttentionTensor, T> backward, Func<T, IEnumerable<StoredTensor>>? further = null)
        where T : AttentionGradients
    {
        using LoadedTensors loaded = new(Inputs, device);
        AttentionInputs inputs = OperatorInputs(loaded);
        AttentionTensor outputGradient = loaded["dout"];
        return Backward(
            device, () => backward(inputs, outputGradient), _ => backward(inputs, outputGradient).Dispose(), further);
    }

    /// <summary>The same where a repeated pass writes to the tensors of the first.</summary>
    protected CaseResult Backward<T>(
        AttentionDevice device, Func<T> first, Action<T> again, Func<T, IEnumerable<StoredTensor>>? further = null)
        where T : AttentionGradients =>
        Run(
            device,
            first,
            again,
            gradients =>
            [
                .. StoreGradients(
                    device, ("q", gradients.Query), ("k", gradients.Key), ("v", gradients.Value), ("gate", gradients.Gate)),
                .. StoreRowFactor(gradients.RowFactor, device),
                .. further?.Invoke(gradients) ?? [],
            ]);

    /// <summary>One value for ssmax, two for asentmax: cases give one number for all heads.</summary>
    protected static IEnumerable<StoredTensor> StoreRowFactor(RowFactorGradients? gradients, AttentionDevice device) => gradients switch
    {
        null => [],
        { Exponents: [] } => [CaseResult.Store("drow_s", gradients.Values[0], device)],
        _ =>
        [
            CaseResult.Store("drow_beta", gradients.Values[0], device),
            CaseResult.Store("drow_gamma", gradients.Exponents[0], device),
        ],
    };
}
