namespace SieveAttention;

/// <summary>
/// Attention with the row functions of related papers: softpick, sigmoid, Elastic-Softmax, affine-scaled softmax and alpha-ReLU.
/// <code>
/// s_ij     = scale g_i (query_i . key_j) - slope_h (i + offset - j)      scale = 1 / sqrt(D) unless given
/// w_i      = f(s_i) over the keys visible to row i                       f = <see cref="RowFunctionOptions.Weights"/>
/// x_i      = sum_j w_ij value_j
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// Query head h uses key and value head h / (Hq / Hkv). A row without a visible key has x = 0. The gradient at a kink is that of its
/// zero side.
/// </summary>
/// <remarks>
/// Runs on the Reference and Cpu devices, both passes; <see cref="RowFunctionDecode"/> decodes. An instance is immutable and may be used
/// from several threads; tensors are the caller's. On the Cpu device nothing but the last digits of the gradients of keys and values
/// depends on the number of threads.
/// </remarks>
public sealed class RowFunctionAttention
{
    private readonly AttentionDevice _device;
    private readonly RowFunctionOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range; names the property.</exception>
    public RowFunctionAttention(AttentionDevice device, RowFunctionOptions options)
    {
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(options);
        _device = device;
        _options = options;
        _options.Validate();
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public RowFunctionOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, superfluous, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public RowFunctionResult Forward(RowFunctionInputs inputs)
    {
        AttentionProblem problem = Check("Row-function attention", inputs);
        RowFunctionResult result = new(HostTensors.Allocate(_device, problem.OutputShape));
        HostRowFunction.Forward(_device, problem, _options, inputs, result);
        return result;
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, superfluous, misshapen, of a wrong type, in the wrong memory or not writable.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public void Forward(RowFunctionInputs inputs, RowFunctionResult into)
    {
        AttentionProblem problem = Check("Row-function attention", inputs);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Attention.Query.Type);
        HostRowFunction.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs and of the parameters of weights and row factor.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, superfluous, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public RowFunctionGradients Backward(RowFunctionInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of row-function attention", inputs);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostRowFunction.Backward(_device, problem, _options, inputs, outputGradient);
    }

    /// <summary>Checks everything before any work.</summary>
    internal AttentionProblem Check(string what, RowFunctionInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        ArgumentNullException.ThrowIfNull(inputs);
        AttentionProblem problem = ProblemBuilder.Build(
            _device, _options.Mask, _options.Scores, _options.Epilogue, inputs.Attention);
        CheckWeights(_device, problem, _options.Weights, inputs.Extras);
        return problem;
    }

    /// <summary>Checks the parameters and tensors that only some weights have.</summary>
    internal static void CheckWeights(AttentionDevice device, in AttentionProblem problem, RowWeights weights, RowFunctionExtras extras)
    {
        if (weights.HeadParameter is var (name, values))
        {
            ProblemBuilder.CheckHeadValues(problem, values.Count, name, name);
        }

        extras.Check(device, problem, weights);
    }
}
