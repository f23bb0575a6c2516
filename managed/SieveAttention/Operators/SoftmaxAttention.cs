namespace SieveAttention;

/// <summary>
/// Softmax attention (arXiv 1706.03762, eq. 1) with row factors and linear biases of <see cref="ScoreOptions"/>.
/// <code>
/// s_ij     = scale g_i (query_i . key_j) - slope_h (i + offset - j)      scale = 1 / sqrt(D) unless given
/// lse_i    = ln sum_j exp(s_ij)                                          over the keys visible to row i
/// x_i      = sum_j exp(s_ij - lse_i) value_j
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// Query head h uses key and value head h / (Hq / Hkv). A row without a visible key has x = 0 and lse = -infinity.
/// </summary>
/// <remarks>
/// Runs on the Reference and Cpu devices, both passes. An instance is immutable and may be used from several threads; tensors are the
/// caller's. On the Cpu device nothing but the last digits of the gradients of keys and values depends on the number of threads.
/// </remarks>
public sealed class SoftmaxAttention
{
    private readonly AttentionDevice _device;
    private readonly SoftmaxOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters; the defaults when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range; names the property.</exception>
    public SoftmaxAttention(AttentionDevice device, SoftmaxOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _options = options ?? new SoftmaxOptions();
        _options.Validate();
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public SoftmaxOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public SoftmaxResult Forward(AttentionInputs inputs)
    {
        AttentionProblem problem = Check("Softmax attention", inputs);
        SoftmaxResult result = new(HostTensors.Allocate(_device, problem.OutputShape), HostTensors.Allocate(_device, problem.RowShape));
        HostSoftmax.Forward(_device, problem, _options, inputs, result);
        return result;
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public void Forward(AttentionInputs inputs, SoftmaxResult into)
    {
        AttentionProblem problem = Check("Softmax attention", inputs);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp, nameof(into.LogSumExp));
        HostSoftmax.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs and of the row factor's parameters.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public AttentionGradients Backward(AttentionInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of softmax attention", inputs);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostSoftmax.Backward(_device, problem, _options, inputs, outputGradient);
    }

    private AttentionProblem Check(string what, AttentionInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        return ProblemBuilder.Build(_device, _options.Mask, _options.Scores, _options.Epilogue, inputs);
    }
}
