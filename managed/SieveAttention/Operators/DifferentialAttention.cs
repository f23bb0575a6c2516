namespace SieveAttention;

/// <summary>
/// Differential attention, first version (arXiv 2410.05258, equations 1 to 3): the difference of two softmax attentions over the same
/// values.
/// <code>
/// s_t[i,j] = scale query_t[i] . key_t[j] - slope_h (i + offset - j),   t in {1, 2},   scale = D^(-1/2) unless given
/// A_t      = softmax of s_t over the keys visible to the row
/// lambda   = exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init             or given finished
/// x        = (A_1 - lambda A_2) value
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// Query head h uses key and value head h / (Hq / Hkv) of both views. A row without a visible key has x = 0 and log-sum-exp -infinity.
/// Rotary positions are applied by the caller before. Where lambda is 0 the output is softmax attention of the first view.
/// </summary>
/// <remarks>
/// Runs on the Reference and Cpu devices, forward and backward. An instance is immutable and may be used from several threads; tensors are
/// the caller's. Lambda, its vectors and their gradient are computed in float64 on every device. On the Cpu device nothing but the last
/// digits of the gradients of keys and values depends on the number of threads.
/// </remarks>
public sealed class DifferentialAttention
{
    private readonly AttentionDevice _device;
    private readonly DifferentialOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters; lambda has no default.</param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// A parameter is not finite, out of range or absent, or there is a row factor; names the property.
    /// </exception>
    public DifferentialAttention(AttentionDevice device, DifferentialOptions options)
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
    public DifferentialOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; lambda and its vectors do not go together.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public DifferentialResult Forward(DifferentialInputs inputs)
    {
        AttentionProblem problem = Check("Differential attention", inputs, out DifferentialLambda lambda);
        DifferentialResult result = new(
            HostTensors.Allocate(_device, problem.OutputShape),
            HostTensors.Allocate(_device, problem.RowShape),
            HostTensors.Allocate(_device, problem.RowShape));
        HostDifferential.Forward(_device, problem, _options, lambda, inputs, result);
        return result;
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; lambda and its vectors do not go together.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public void Forward(DifferentialInputs inputs, DifferentialResult into)
    {
        AttentionProblem problem = Check("Differential attention", inputs, out DifferentialLambda lambda);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query1.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp1, nameof(into.LogSumExp1));
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp2, nameof(into.LogSumExp2));
        HostDifferential.Forward(_device, problem, _options, lambda, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs and of lambda.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>
    /// Gradients in host memory, owned by the caller: Float64 from the Reference device, Float32 from the Cpu device.
    /// </returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; lambda and its vectors do not go together.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public DifferentialGradients Backward(DifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of differential attention", inputs, out DifferentialLambda lambda);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostDifferential.Backward(_device, problem, _options, lambda, inputs, outputGradient);
    }

    private AttentionProblem Check(string what, DifferentialInputs inputs, out DifferentialLambda lambda)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        ArgumentNullException.ThrowIfNull(inputs);
        ArgumentNullException.ThrowIfNull(inputs.Query2);
        ArgumentNullException.ThrowIfNull(inputs.Key2);
        AttentionProblem problem = ProblemBuilder.Build(
            _device,
            _options.Mask,
            inputs.Query1,
            nameof(inputs.Query1),
            inputs.Key1,
            nameof(inputs.Key1),
            inputs.Value,
            nameof(inputs.Value));
        ProblemBuilder.CheckView(_device, problem, inputs.Query2, nameof(inputs.Query2), inputs.Key2, nameof(inputs.Key2));
        ProblemBuilder.CheckScores(_device, problem, _options.Scores, rowFactors: null);
        ProblemBuilder.CheckEpilogue(_device, problem, _options.Epilogue, inputs.NormGain, inputs.Gate);
        if (inputs.LambdaVectors is { } vectors)
        {
            TensorGuard.Input(vectors, nameof(inputs.LambdaVectors), _device);
            TensorGuard.Shape(
                vectors, nameof(inputs.LambdaVectors), new TensorShape(1, 1, 4, problem.HeadDim), "[1, 1, 4, head_dim]");
        }

        lambda = DifferentialLambda.Read(_options, inputs.LambdaVectors, problem.QueryHeads);
        return problem;
    }
}
