namespace SieveAttention;

/// <summary>
/// Alpha-entmax attention (arXiv 1905.05702, 1909.00015 for a learned alpha of each head, 2502.12082): sparse weights that sum to 1.
/// <code>
/// s_ij     = scale g_i (query_i . key_j) - slope_h (i + offset - j)      scale = 1 / sqrt(D) unless given
/// z_ij     = (alpha - 1) s_ij
/// p_ij     = (z_ij - tau_i)_+^(1 / (alpha - 1))                          tau_i such that sum_j p_ij = 1 over the visible keys
/// x_i      = sum_j p_ij value_j
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// alpha 1.5: p = (s/2 - tau)_+^2; alpha 2 is sparsemax: p = (s - tau)_+. With u = p^(2 - alpha) on the support, the backward pass is
/// ds = u (dp - sum u dp / sum u). Query head h uses key and value head h / (Hq / Hkv). A row without a visible key has x = 0, support 0
/// and no threshold. With linear biases the weights of far keys are exactly 0.
/// </summary>
/// <remarks>
/// Runs on the Reference and Cpu devices, both passes. An instance is immutable and may be used from several threads; tensors are the
/// caller's. On the Cpu device nothing but the last digits of the gradients of keys and values depends on the number of threads.
/// </remarks>
public sealed class EntmaxAttention
{
    private readonly AttentionDevice _device;
    private readonly EntmaxOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters; the defaults when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range; names the property.</exception>
    public EntmaxAttention(AttentionDevice device, EntmaxOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _options = options ?? new EntmaxOptions();
        _options.Validate();
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public EntmaxOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public EntmaxResult Forward(AttentionInputs inputs)
    {
        AttentionProblem problem = Check("Entmax attention", inputs);
        EntmaxResult result = new(
            HostTensors.Allocate(_device, problem.OutputShape),
            HostTensors.Allocate(_device, problem.RowShape),
            AttentionTensor.Allocate(TensorType.Int32, problem.RowShape));
        HostEntmax.Forward(_device, problem, _options, inputs, result);
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
    public void Forward(AttentionInputs inputs, EntmaxResult into)
    {
        AttentionProblem problem = Check("Entmax attention", inputs);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(_device, problem, into.Tau, nameof(into.Tau));
        ProblemBuilder.CheckCounts(_device, problem, into.Support, nameof(into.Support));
        HostEntmax.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs, of alpha and of the row factor's parameters.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public EntmaxGradients Backward(AttentionInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of entmax attention", inputs);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostEntmax.Backward(_device, problem, _options, inputs, outputGradient);
    }

    private AttentionProblem Check(string what, AttentionInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        AttentionProblem problem = ProblemBuilder.Build(_device, _options.Mask, _options.Scores, _options.Epilogue, inputs);
        ProblemBuilder.CheckHeadValues(problem, _options.Alpha.Count, nameof(_options.Alpha), nameof(_options.Alpha));
        return problem;
    }
}
