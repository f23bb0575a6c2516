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
/// Runs on every device, forward and backward; a CUDA device takes Float16 or BFloat16 inputs and no distance bias. An instance is immutable
/// and may be used from several threads; tensors and streams are the caller's. Lambda from vectors and the gradient of the vectors are
/// computed in float64 in host memory on every device; vectors in device memory are copied first, which waits. On the Cpu device nothing but
/// the last digits of the gradients of keys and values depends on the number of threads. On a CUDA device calls are asynchronous: they
/// enqueue on the stream and return; reading a result has to be ordered after them on the same stream, or after
/// <see cref="AttentionStream.Synchronize"/>.
/// </remarks>
public sealed class DifferentialAttention
{
    private readonly AttentionDevice _device;
    private readonly DifferentialOptions _options;
    private readonly CudaDifferential? _cuda;

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
        _cuda = device is CudaDevice cuda ? new CudaDifferential(cuda, _options) : null;
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public DifferentialOptions Options => _options;

    /// <summary>
    /// Computes into new tensors: Float64 in host memory on the Reference device, Float32 in host memory on the Cpu device, of the inputs'
    /// type (the logarithms Float32) in device memory on a CUDA device (legacy default stream).
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; lambda and its vectors do not go together.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public DifferentialResult Forward(DifferentialInputs inputs)
    {
        AttentionProblem problem = Check(inputs, out DifferentialLambda lambda);
        if (_cuda is null)
        {
            DifferentialResult host = new(
                HostTensors.Allocate(_device, problem.OutputShape),
                HostTensors.Allocate(_device, problem.RowShape),
                HostTensors.Allocate(_device, problem.RowShape));
            HostDifferential.Forward(_device, problem, _options, lambda, inputs, host);
            return host;
        }

        DifferentialResult result = _cuda.Allocate(inputs.Query1.Type, problem, viewOutputs: false);
        try
        {
            _cuda.Forward(inputs, lambda, result, stream: null, workspace: null);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Computes into the caller's tensors. On a CUDA device with a workspace this allocates no device memory once the workspace has grown,
    /// and never synchronizes.
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <param name="stream">CUDA only: where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">CUDA only: scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; lambda and its vectors do not go together; a
    /// stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Forward(
        DifferentialInputs inputs, DifferentialResult into, AttentionStream? stream = null, DeviceWorkspace? workspace = null)
    {
        AttentionProblem problem = Check(inputs, out DifferentialLambda lambda);
        CheckResult(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        if (_cuda is { } cuda)
        {
            cuda.Forward(inputs, lambda, into, stream, workspace);
        }
        else
        {
            HostDifferential.Forward(_device, problem, _options, lambda, inputs, into);
        }
    }

    /// <summary>
    /// Computes the gradients of the inputs and of lambda. On a CUDA device this runs the forward pass again; the overload with its result
    /// does not.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">
    /// Gradient of the output, [B, Hq, Tq, Dv], any floating-point type; the inputs' type on a CUDA device.
    /// </param>
    /// <returns>
    /// The gradients, owned by the caller: Float64 from the Reference device, Float32 from the Cpu device, of the inputs' types from a CUDA
    /// device.
    /// </returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; lambda and its vectors do not go together.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public DifferentialGradients Backward(DifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = CheckBackward(inputs, outputGradient, out DifferentialLambda lambda);
        if (_cuda is not { } cuda)
        {
            return HostDifferential.Backward(_device, problem, _options, lambda, inputs, outputGradient);
        }

        using DifferentialResult forward = cuda.Allocate(inputs.Query1.Type, problem, viewOutputs: true);
        DifferentialGradients gradients = cuda.AllocateGradients(problem, inputs);
        try
        {
            cuda.Forward(inputs, lambda, forward, stream: null, workspace: null);
            cuda.Backward(inputs, lambda, forward, outputGradient, gradients, stream: null, workspace: null);
            return gradients;
        }
        catch
        {
            gradients.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Computes the gradients into the caller's tensors, from the result of the forward pass: CUDA devices only. With a workspace this
    /// allocates no device memory once the workspace has grown, and never synchronizes.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="forward">The result of the forward pass, with the views' own outputs.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], of the inputs' type.</param>
    /// <param name="into">Tensors to write, such as those of <see cref="AllocateGradients"/>; an absent gain or gate is not computed.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; a stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Backward(
        DifferentialInputs inputs,
        DifferentialResult forward,
        AttentionTensor outputGradient,
        DifferentialGradients into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        DeviceGuard.OnlyOn(_device, "Backward of differential attention into given tensors", AttentionDeviceKind.Cuda);
        AttentionProblem problem = CheckBackward(inputs, outputGradient, out DifferentialLambda lambda);
        CheckResult(problem, inputs, forward);
        if (forward.Output1 is null)
        {
            throw Guard.Tensor(
                nameof(forward.Output1), "Output1 is absent; the forward pass has to be given tensors for both views' own outputs.");
        }

        ArgumentNullException.ThrowIfNull(into);
        _cuda!.CheckGradients(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        _cuda.Backward(inputs, lambda, forward, outputGradient, into, stream, workspace);
    }

    /// <summary>Makes tensors for the gradients of a call, on a CUDA device: those of the inputs in their type, the others Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public DifferentialGradients AllocateGradients(DifferentialInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, "Tensors for the gradients of differential attention", AttentionDeviceKind.Cuda);
        return _cuda!.AllocateGradients(Check(inputs, out _), inputs);
    }

    /// <summary>Makes tensors for a result that backward can start from, on a CUDA device: the views' own outputs are Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public DifferentialResult AllocateResult(DifferentialInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, "Tensors for a result of differential attention", AttentionDeviceKind.Cuda);
        return _cuda!.Allocate(inputs.Query1.Type, Check(inputs, out _), viewOutputs: true);
    }

    private AttentionProblem CheckBackward(DifferentialInputs inputs, AttentionTensor outputGradient, out DifferentialLambda lambda)
    {
        AttentionProblem problem = Check(inputs, out lambda);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        if (_cuda is not null)
        {
            ProblemBuilder.CheckSameType(inputs.Query1, nameof(inputs.Query1), (outputGradient, nameof(outputGradient)));
        }

        return problem;
    }

    private void CheckResult(in AttentionProblem problem, DifferentialInputs inputs, DifferentialResult into)
    {
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query1.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp1, nameof(into.LogSumExp1));
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp2, nameof(into.LogSumExp2));
        if (into.Output1 is { } first && into.Output2 is { } second)
        {
            DeviceGuard.OnlyOn(_device, "A result with the views' own outputs", AttentionDeviceKind.Cuda);
            ProblemBuilder.CheckOutput(_device, problem, first, nameof(into.Output1), inputs.Query1.Type);
            ProblemBuilder.CheckOutput(_device, problem, second, nameof(into.Output2), first.Type);
            TensorGuard.Type(second, nameof(into.Output2), first.Type);
        }
    }

    private AttentionProblem Check(DifferentialInputs inputs, out DifferentialLambda lambda)
    {
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
            TensorGuard.Input(vectors, nameof(inputs.LambdaVectors), vectors.IsOnHost ? AttentionDevice.Cpu : _device);
            TensorGuard.Shape(
                vectors, nameof(inputs.LambdaVectors), new TensorShape(1, 1, 4, problem.HeadDim), "[1, 1, 4, head_dim]");
        }

        _cuda?.Check(inputs);
        using AttentionTensor? copy = inputs.LambdaVectors is { IsOnHost: false } onDevice ? onDevice.ToHost() : null;
        lambda = DifferentialLambda.Read(_options, copy ?? inputs.LambdaVectors, problem.QueryHeads);
        return problem;
    }
}
