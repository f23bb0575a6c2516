namespace SieveAttention;

/// <summary>
/// Support-basis attention (after arXiv 2510.01643), experimental: where no score of a tile can be large, its weights are a Taylor
/// polynomial of exp.
/// <code>
/// s_ij     = scale g_i (query_i . key_j)                                 scale = 1 / sqrt(D) unless given
/// u_IJ     = |scale| max_I |g_i| |query_i| max_J |key_j|                 tiles of query rows I and key rows J, counted from row 0
/// w_ij     = exp(s_ij)                    where u_IJ &gt; bound
///            1 + s_ij [ + s_ij^2 / 2 ]    elsewhere, degree 1 [2]
/// x_i      = sum_j w_ij value_j / sum_j w_ij                             over the keys visible to row i
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// All rows of a tile take part in its bound, visible or not. Query head h uses key and value head h / (Hq / Hkv). A row without a
/// visible key has x = 0; a row whose weights do not sum to a positive number is an error (possible for degree 1).
/// </summary>
/// <remarks>
/// <para>
/// The operator is defined by the polynomial. Its distance to softmax attention, as the largest error of the polynomial on [-b, b]
/// relative to exp(s) / to exp(b): degree 1: b = 0.1 0.53 / 0.47 %, 0.25 3.7 / 2.7 %, 0.5 18 / 9 %, 1 100 / 26 %; degree 2: b = 0.1
/// 0.02 / 0.02 %, 0.25 0.31 / 0.22 %, 0.5 3.1 / 1.4 %, 1 36 / 8 %, 2 640 / 32 %. A bound that stays useful for real queries and keys
/// is rarely this small: expect most tiles to be exact, and no gain in speed from the sizes of ordinary models. More in
/// docs/support-basis.md.
/// </para>
/// <para>
/// Runs on the Reference and Cpu devices, both passes. An instance is immutable and may be used from several threads; tensors are the
/// caller's. On the Cpu device nothing but the last digits of the gradients of keys and values depends on the number of threads.
/// </para>
/// </remarks>
public sealed class SupportBasisAttention
{
    private readonly AttentionDevice _device;
    private readonly SupportBasisOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range; names the property.</exception>
    public SupportBasisAttention(AttentionDevice device, SupportBasisOptions options)
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
    public SupportBasisOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the weights of a row do not sum to a positive number.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public SupportBasisResult Forward(AttentionInputs inputs)
    {
        AttentionProblem problem = Check("Support-basis attention", inputs);
        SupportBasisResult result = new(HostTensors.Allocate(_device, problem.OutputShape));
        HostSupportBasis.Forward(_device, problem, _options, inputs, result);
        return result;
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; the weights of a row do not sum to a
    /// positive number.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public void Forward(AttentionInputs inputs, SupportBasisResult into)
    {
        AttentionProblem problem = Check("Support-basis attention", inputs);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query.Type);
        HostSupportBasis.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs and of the row factor's parameters.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>The gradients, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the weights of a row do not sum to a positive number.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public AttentionGradients Backward(AttentionInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of support-basis attention", inputs);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostSupportBasis.Backward(_device, problem, _options, inputs, outputGradient);
    }

    private AttentionProblem Check(string what, AttentionInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        return ProblemBuilder.Build(_device, _options.Mask, _options.Scores, _options.Epilogue, inputs);
    }
}
