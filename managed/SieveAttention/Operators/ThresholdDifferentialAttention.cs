namespace SieveAttention;

/// <summary>
/// Threshold differential attention (arXiv 2601.12145): cosine scores of two query/key views, a threshold known for each row in
/// advance, and the difference of the exceedances as weights, without normalization over the keys.
/// <code>
/// s_t[i,j] = cosine(query_t[i], key_t[j]),   t in {1, 2}
/// tau_i    = beta sqrt(2 max(ln(n_i / kappa), 0) / D),   n_i = number of keys visible to row i
/// x_i      = sum_j ( (s_1 - tau_i)_+^power - lambda (s_2 - tau_i)_+^power ) value_j
/// output_i = epilogue(x_i):   norm and gain, output scale, gate
/// </code>
/// Query head h uses key and value head h / (Hq / Hkv). A row without a visible key, or without one above its threshold, has x = 0.
/// Scores do not depend on the length of queries and keys; rotary positions are applied by the caller before.
/// </summary>
/// <remarks>
/// Forward and Backward run on every device. An instance is immutable and may be used from several threads; tensors and streams are
/// the caller's. On the Cpu device nothing but the last digits of the gradients of keys and values depends on the number of threads.
/// On a CUDA device both are asynchronous: they enqueue on the stream and return; reading the results has to be ordered after them on
/// the same stream, or after <see cref="AttentionStream.Synchronize"/>.
/// </remarks>
public sealed class ThresholdDifferentialAttention
{
    private readonly AttentionDevice _device;
    private readonly ThresholdDifferentialOptions _options;
    private readonly CudaThresholdDifferential? _cuda;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters; the defaults when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">A parameter is not finite or out of range; names the property.</exception>
    public ThresholdDifferentialAttention(AttentionDevice device, ThresholdDifferentialOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _options = options ?? new ThresholdDifferentialOptions();
        _options.Validate();
        _cuda = device is CudaDevice cuda ? new CudaThresholdDifferential(cuda, _options) : null;
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public ThresholdDifferentialOptions Options => _options;

    /// <summary>
    /// Computes into new tensors: Float64 in host memory on the Reference device, Float32 in host memory on the Cpu device, of
    /// the inputs' type in device memory on a CUDA device (legacy default stream).
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The CUDA device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public ThresholdDifferentialResult Forward(ThresholdDifferentialInputs inputs)
    {
        AttentionProblem problem = Check(inputs);
        ThresholdDifferentialResult result = _cuda is { } cuda ? cuda.Allocate(inputs, problem) : AllocateHost(inputs, problem);
        try
        {
            ForwardCore(problem, inputs, result, stream: null, workspace: null);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Computes into the caller's tensors. On a CUDA device with a workspace this allocates no device memory once the workspace
    /// has grown, and never synchronizes.
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <param name="stream">CUDA only: where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">CUDA only: scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; a stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The CUDA device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Forward(
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        AttentionProblem problem = Check(inputs);
        CheckResult(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        ForwardCore(problem, inputs, into, stream, workspace);
    }

    /// <summary>Computes the gradients of the inputs and of beta, kappa and lambda into new tensors.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], any floating-point type; the inputs' type on CUDA.</param>
    /// <returns>
    /// Gradients, owned by the caller: Float64 in host memory from the Reference device, Float32 in host memory from the Cpu device, in
    /// device memory from a CUDA device (legacy default stream), those of the inputs in their type, the others Float32.
    /// </returns>
    /// <remarks>
    /// At a score that equals its threshold the derivative is 0. Rows with at most kappa visible keys give nothing to beta and
    /// kappa. Queries and keys shorter than 1e-12 are treated as divided by that constant. Results of a CUDA device repeat bit for bit.
    /// </remarks>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The CUDA device has no kernel for these sizes; says which there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public ThresholdDifferentialGradients Backward(ThresholdDifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = CheckBackward(inputs, outputGradient);
        if (_cuda is not { } cuda)
        {
            return HostThresholdDifferential.Backward(_device, problem, _options, inputs, outputGradient);
        }

        ThresholdDifferentialGradients gradients = cuda.AllocateGradients(problem, inputs);
        try
        {
            cuda.Backward(inputs, survivorTiles: null, outputGradient, gradients, stream: null, workspace: null);
            return gradients;
        }
        catch
        {
            gradients.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Computes the gradients into the caller's tensors: CUDA devices only. With a workspace this allocates no device memory once the
    /// workspace has grown, and never synchronizes.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="forward">
    /// The result of the forward pass, of which <see cref="ThresholdDifferentialResult.SurvivorTiles"/> saves looking for survivors; without
    /// it, with a norm, or with Lambda = 0 where the gradient of lambda is wanted, they are looked for again.
    /// </param>
    /// <param name="outputGradient">Gradient of the output, [B, Hq, Tq, Dv], of the inputs' type.</param>
    /// <param name="into">Tensors to write, such as those of <see cref="AllocateGradients"/>; absent ones are not computed.</param>
    /// <param name="stream">Where to enqueue; the legacy default stream when absent.</param>
    /// <param name="workspace">Scratch memory to reuse; without it a needed one is allocated and freed, which waits.</param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; a stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Backward(
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult? forward,
        AttentionTensor outputGradient,
        ThresholdDifferentialGradients into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        CudaThresholdDifferential cuda = RequireCuda("Backward of threshold differential attention into given tensors");
        AttentionProblem problem = CheckBackward(inputs, outputGradient);
        if (forward is not null)
        {
            CheckResult(problem, inputs, forward);
        }

        ArgumentNullException.ThrowIfNull(into);
        cuda.CheckGradients(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        cuda.Backward(inputs, forward?.SurvivorTiles, outputGradient, into, stream, workspace);
    }

    /// <summary>Makes tensors for the gradients of a call, on a CUDA device: those of the inputs in their type, the others Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public ThresholdDifferentialGradients AllocateGradients(ThresholdDifferentialInputs inputs) =>
        RequireCuda("Tensors for the gradients of threshold differential attention").AllocateGradients(Check(inputs), inputs);

    private CudaThresholdDifferential RequireCuda(string what)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Cuda);
        return _cuda!;
    }

    private ThresholdDifferentialResult AllocateHost(ThresholdDifferentialInputs inputs, in AttentionProblem problem) => new(
        HostTensors.Allocate(_device, problem.OutputShape),
        AttentionTensor.Allocate(TensorType.Int32, problem.RowShape, _device),
        inputs.Query2 is null ? null : AttentionTensor.Allocate(TensorType.Int32, problem.RowShape, _device));

    private AttentionProblem CheckBackward(ThresholdDifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check(inputs);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        if (_cuda is not null)
        {
            ProblemBuilder.CheckSameType(inputs.Query1, nameof(inputs.Query1), (outputGradient, nameof(outputGradient)));
        }

        return problem;
    }

    private void ForwardCore(
        in AttentionProblem problem,
        ThresholdDifferentialInputs inputs,
        ThresholdDifferentialResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        if (_cuda is { } cuda)
        {
            cuda.Forward(inputs, into, stream, workspace);
        }
        else
        {
            HostThresholdDifferential.Forward(_device, problem, _options, inputs, into);
        }
    }

    private AttentionProblem Check(ThresholdDifferentialInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
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
        if (inputs.Query2 is null && _options.NeedsSecondView)
        {
            string message = FormattableString.Invariant(
                $"Query2 and Key2 are absent and Lambda is {_options.Lambda}; allowed: absent with Lambda = 0 only.");
            throw Guard.Tensor(nameof(inputs.Query2), message);
        }

        ProblemBuilder.CheckEpilogue(_device, problem, _options.Epilogue, inputs.NormGain, inputs.Gate);
        if (_cuda is not null)
        {
            CudaThresholdDifferential.Check(inputs);
        }

        return problem;
    }

    private void CheckResult(in AttentionProblem problem, ThresholdDifferentialInputs inputs, ThresholdDifferentialResult into)
    {
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query1.Type);
        ProblemBuilder.CheckCounts(_device, problem, into.Survivors1, nameof(into.Survivors1));
        _cuda?.CheckResult(problem, into);
        if (into.Survivors2 is { } survivors2)
        {
            if (inputs.Query2 is null)
            {
                throw Guard.Tensor(nameof(into.Survivors2), "Survivors2 is given, but Query2 is absent; allowed: both, or neither.");
            }

            ProblemBuilder.CheckCounts(_device, problem, survivors2, nameof(into.Survivors2));
        }

        if (into.SurvivorTiles is { } tiles)
        {
            DeviceGuard.OnlyOn(_device, "SurvivorTiles", AttentionDeviceKind.Cuda);
            ProblemBuilder.CheckTiles(_device, problem, tiles, nameof(into.SurvivorTiles));
        }
    }
}
