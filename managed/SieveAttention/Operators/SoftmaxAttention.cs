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
/// Runs on every device, both passes; a CUDA device takes Float16 or BFloat16 inputs, no distance bias, and no gradients of a norm. An
/// instance is immutable and may be used from several threads; tensors and streams are the caller's. On the Cpu device nothing but the last
/// digits of the gradients of keys and values depends on the number of threads. On a CUDA device calls are asynchronous: they enqueue on the
/// stream and return; reading a result has to be ordered after them on the same stream, or after
/// <see cref="AttentionStream.Synchronize"/>.
/// </remarks>
public sealed class SoftmaxAttention
{
    private readonly AttentionDevice _device;
    private readonly SoftmaxOptions _options;
    private readonly CudaSoftmax? _cuda;

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
        _cuda = device is CudaDevice cuda ? new CudaSoftmax(cuda, _options) : null;
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public SoftmaxOptions Options => _options;

    /// <summary>
    /// Computes into new tensors: Float64 in host memory on the Reference device, Float32 in host memory on the Cpu device, of the
    /// inputs' type (the logarithms Float32) in device memory on a CUDA device (legacy default stream).
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public SoftmaxResult Forward(AttentionInputs inputs) => ForwardNew(inputs, sequences: null);

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
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; a stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Forward(
        AttentionInputs inputs, SoftmaxResult into, AttentionStream? stream = null, DeviceWorkspace? workspace = null) =>
        ForwardInto(inputs, sequences: null, into, stream, workspace);

    /// <summary>
    /// Computes the gradients of the inputs and of the row factor's parameters, into new tensors. On a CUDA device this runs the forward pass
    /// again; the overload with its result does not.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">
    /// Gradient of the output, [B, Hq, Tq, Dv], any floating-point type; the inputs' type on a CUDA device.
    /// </param>
    /// <returns>The gradients, owned by the caller; those of the inputs have the inputs' type on a CUDA device.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public AttentionGradients Backward(AttentionInputs inputs, AttentionTensor outputGradient)
    {
        if (_cuda is not null)
        {
            return BackwardNew(inputs, sequences: null, outputGradient);
        }

        AttentionProblem problem = Check(inputs, sequences: null);
        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        return HostSoftmax.Backward(_device, problem, _options, inputs, outputGradient);
    }

    /// <summary>
    /// Computes the gradients into the caller's tensors, from the result of the forward pass: CUDA devices only. With a workspace this
    /// allocates no device memory once the workspace has grown, and never synchronizes.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="forward">The result of the forward pass.</param>
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
        AttentionInputs inputs,
        SoftmaxResult forward,
        AttentionTensor outputGradient,
        AttentionGradients into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null) =>
        BackwardInto(inputs, sequences: null, forward, outputGradient, into, stream, workspace);

    /// <summary>Makes tensors for the gradients of a call, on a CUDA device: those of the inputs in their type, the others Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public AttentionGradients AllocateGradients(AttentionInputs inputs)
    {
        CudaSoftmax cuda = RequireCuda("Tensors for the gradients of softmax attention");
        return cuda.AllocateGradients(Check(inputs, sequences: null), inputs);
    }

    internal SoftmaxResult ForwardNew(AttentionInputs inputs, PackedSequences? sequences)
    {
        AttentionProblem problem = Check(inputs, sequences);
        SoftmaxResult result = _cuda is { } cuda
            ? cuda.Allocate(inputs.Query.Type, problem)
            : new SoftmaxResult(HostTensors.Allocate(_device, problem.OutputShape), HostTensors.Allocate(_device, problem.RowShape));
        try
        {
            ForwardCore(problem, inputs, sequences, result, stream: null, workspace: null);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    internal void ForwardInto(
        AttentionInputs inputs, PackedSequences? sequences, SoftmaxResult into, AttentionStream? stream, DeviceWorkspace? workspace)
    {
        AttentionProblem problem = Check(inputs, sequences);
        CheckResult(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        ForwardCore(problem, inputs, sequences, into, stream, workspace);
    }

    /// <summary>Both passes on a CUDA device.</summary>
    internal AttentionGradients BackwardNew(AttentionInputs inputs, PackedSequences? sequences, AttentionTensor outputGradient)
    {
        CudaSoftmax cuda = RequireCuda("Backward of softmax attention with kernels");
        AttentionProblem problem = CheckBackward(inputs, sequences, outputGradient);
        using SoftmaxResult forward = cuda.Allocate(inputs.Query.Type, problem);
        AttentionGradients gradients = cuda.AllocateGradients(problem, inputs);
        try
        {
            cuda.Forward(inputs, sequences, forward, stream: null, workspace: null);
            cuda.Backward(inputs, sequences, forward, outputGradient, gradients, stream: null, workspace: null);
            return gradients;
        }
        catch
        {
            gradients.Dispose();
            throw;
        }
    }

    internal void BackwardInto(
        AttentionInputs inputs,
        PackedSequences? sequences,
        SoftmaxResult forward,
        AttentionTensor outputGradient,
        AttentionGradients into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        CudaSoftmax cuda = RequireCuda("Backward of softmax attention into given tensors");
        AttentionProblem problem = CheckBackward(inputs, sequences, outputGradient);
        CheckResult(problem, inputs, forward);
        ArgumentNullException.ThrowIfNull(into);
        cuda.CheckGradients(problem, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        cuda.Backward(inputs, sequences, forward, outputGradient, into, stream, workspace);
    }

    /// <summary>The part of the operator that only a CUDA device has.</summary>
    internal CudaSoftmax RequireCuda(string what)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Cuda);
        return _cuda!;
    }

    private void ForwardCore(
        in AttentionProblem problem,
        AttentionInputs inputs,
        PackedSequences? sequences,
        SoftmaxResult into,
        AttentionStream? stream,
        DeviceWorkspace? workspace)
    {
        if (_cuda is { } cuda)
        {
            cuda.Forward(inputs, sequences, into, stream, workspace);
        }
        else
        {
            HostSoftmax.Forward(_device, problem, _options, inputs, into);
        }
    }

    private AttentionProblem CheckBackward(AttentionInputs inputs, PackedSequences? sequences, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check(inputs, sequences);
        if (_options.Epilogue.Norm != OutputNorm.None)
        {
            DeviceGuard.OnlyOn(
                _device, "Backward of softmax attention with a norm", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        }

        ProblemBuilder.CheckOutputGradient(_device, problem, outputGradient, nameof(outputGradient));
        ProblemBuilder.CheckSameType(inputs.Query, nameof(inputs.Query), (outputGradient, nameof(outputGradient)));
        return problem;
    }

    private AttentionProblem Check(AttentionInputs inputs, PackedSequences? sequences)
    {
        AttentionProblem problem = ProblemBuilder.Build(_device, _options.Mask, _options.Scores, _options.Epilogue, inputs);
        _cuda?.Check(inputs, sequences);
        return problem;
    }

    private void CheckResult(in AttentionProblem problem, AttentionInputs inputs, SoftmaxResult into)
    {
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, problem, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp, nameof(into.LogSumExp));
    }
}
