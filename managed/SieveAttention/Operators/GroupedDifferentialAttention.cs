namespace SieveAttention;

/// <summary>
/// Differential attention, second version and its grouped form (Differential Transformer V2; arXiv 2608.09119 for several signal heads):
/// ordinary softmax heads in groups of r signal heads and one noise head, which is subtracted from each of them with a weight of each row's
/// own.
/// <code>
/// s[i,j]   = scale query[i] . key[j] - slope_h (i + offset - j),   scale = D^(-1/2) unless given
/// O_h      = softmax of s over the keys visible to the row, times value;   h over all query heads
/// x_s[i]   = O_s[i] - sigmoid(lambda_logit_s[i]) O_n[i],   s a signal head, n the noise head of its group
/// output_i = epilogue(x_i):   norm and gain, output scale, gate; the published models do nothing here
/// </code>
/// Query heads come as (s_0, .., s_(r-1), n) of the first group, then of the second and so on; the output has the signal heads only. Query
/// head h uses key and value head h / (Hq / Hkv). The models keep a group on one key head, which is not required here. A row without a
/// visible key has x = 0 and log-sum-exp -infinity. Rotary positions are applied by the caller before.
/// </summary>
/// <remarks>
/// Runs on every device, forward and backward; a CUDA device takes Float16 or BFloat16 inputs, Float32 logits and no distance bias. An
/// instance is immutable and may be used from several threads; tensors and streams are the caller's. On the Cpu device nothing but the last
/// digits of the gradients of keys and values depends on the number of threads. On a CUDA device calls are asynchronous: they enqueue on the
/// stream and return; reading a result has to be ordered after them on the same stream, or after <see cref="AttentionStream.Synchronize"/>.
/// </remarks>
public sealed class GroupedDifferentialAttention
{
    private readonly AttentionDevice _device;
    private readonly GroupedDifferentialOptions _options;
    private readonly CudaGroupedDifferential? _cuda;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters; the defaults, which are those of the second version, when absent.</param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// A parameter is not finite or out of range, or there is a row factor; names the property.
    /// </exception>
    public GroupedDifferentialAttention(AttentionDevice device, GroupedDifferentialOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(device);
        _device = device;
        _options = options ?? new GroupedDifferentialOptions();
        _options.Validate();
        _cuda = device is CudaDevice cuda ? new CudaGroupedDifferential(cuda, _options) : null;
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public GroupedDifferentialOptions Options => _options;

    /// <summary>
    /// Computes into new tensors: Float64 in host memory on the Reference device, Float32 in host memory on the Cpu device, of the inputs'
    /// type (the logarithms Float32) in device memory on a CUDA device (legacy default stream).
    /// </summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the query heads are not a multiple of a group.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public GroupedDifferentialResult Forward(GroupedDifferentialInputs inputs)
    {
        AttentionProblem problem = Check(inputs, out AttentionProblem output);
        if (_cuda is null)
        {
            GroupedDifferentialResult host = new(
                HostTensors.Allocate(_device, output.OutputShape), HostTensors.Allocate(_device, problem.RowShape));
            HostGroupedDifferential.Forward(_device, problem, _options, inputs, host);
            return host;
        }

        GroupedDifferentialResult result = _cuda.Allocate(inputs.Query.Type, problem, output, headOutputs: false);
        try
        {
            _cuda.Forward(inputs, result, stream: null, workspace: null);
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
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; the query heads are not a multiple of a group; a
    /// stream or workspace of another device.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor, the stream, the workspace or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public void Forward(
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        AttentionProblem problem = Check(inputs, out AttentionProblem output);
        CheckResult(problem, output, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        if (_cuda is { } cuda)
        {
            cuda.Forward(inputs, into, stream, workspace);
        }
        else
        {
            HostGroupedDifferential.Forward(_device, problem, _options, inputs, into);
        }
    }

    /// <summary>
    /// Computes the gradients of the inputs. On a CUDA device this runs the forward pass again; the overload with its result does not.
    /// </summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">
    /// Gradient of the output, [B, Ho, Tq, Dv], any floating-point type; the inputs' type on a CUDA device.
    /// </param>
    /// <returns>
    /// The gradients, owned by the caller: Float64 from the Reference device, Float32 from the Cpu device, of the inputs' types from a CUDA
    /// device.
    /// </returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the query heads are not a multiple of a group.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this; says which do, or which sizes there are.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    /// <exception cref="SieveException">The device failed.</exception>
    public GroupedDifferentialGradients Backward(GroupedDifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = CheckBackward(inputs, outputGradient, out AttentionProblem output);
        if (_cuda is not { } cuda)
        {
            return HostGroupedDifferential.Backward(_device, problem, _options, inputs, outputGradient);
        }

        using GroupedDifferentialResult forward = cuda.Allocate(inputs.Query.Type, problem, output, headOutputs: true);
        GroupedDifferentialGradients gradients = cuda.AllocateGradients(problem, output, inputs);
        try
        {
            cuda.Forward(inputs, forward, stream: null, workspace: null);
            cuda.Backward(inputs, forward, outputGradient, gradients, stream: null, workspace: null);
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
    /// <param name="forward">The result of the forward pass, with the heads' own outputs.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Ho, Tq, Dv], of the inputs' type.</param>
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
        GroupedDifferentialInputs inputs,
        GroupedDifferentialResult forward,
        AttentionTensor outputGradient,
        GroupedDifferentialGradients into,
        AttentionStream? stream = null,
        DeviceWorkspace? workspace = null)
    {
        DeviceGuard.OnlyOn(_device, "Backward of grouped differential attention into given tensors", AttentionDeviceKind.Cuda);
        AttentionProblem problem = CheckBackward(inputs, outputGradient, out AttentionProblem output);
        CheckResult(problem, output, inputs, forward);
        if (forward.HeadOutputs is null)
        {
            throw Guard.Tensor(
                nameof(forward.HeadOutputs),
                "HeadOutputs is absent; the forward pass has to be given a tensor for the heads' own outputs.");
        }

        ArgumentNullException.ThrowIfNull(into);
        _cuda!.CheckGradients(output, inputs, into);
        DeviceGuard.Queue(_device, stream, workspace);
        _cuda.Backward(inputs, forward, outputGradient, into, stream, workspace);
    }

    /// <summary>Makes tensors for the gradients of a call, on a CUDA device: those of the inputs in their type, the others Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public GroupedDifferentialGradients AllocateGradients(GroupedDifferentialInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, "Tensors for the gradients of grouped differential attention", AttentionDeviceKind.Cuda);
        AttentionProblem problem = Check(inputs, out AttentionProblem output);
        return _cuda!.AllocateGradients(problem, output, inputs);
    }

    /// <summary>Makes tensors for a result that backward can start from, on a CUDA device: the heads' own outputs are Float32.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <returns>The tensors with undefined contents, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The operator is not on a CUDA device.</exception>
    /// <exception cref="SieveException">The device has not enough memory.</exception>
    public GroupedDifferentialResult AllocateResult(GroupedDifferentialInputs inputs)
    {
        DeviceGuard.OnlyOn(_device, "Tensors for a result of grouped differential attention", AttentionDeviceKind.Cuda);
        AttentionProblem problem = Check(inputs, out AttentionProblem output);
        return _cuda!.Allocate(inputs.Query.Type, problem, output, headOutputs: true);
    }

    private AttentionProblem CheckBackward(
        GroupedDifferentialInputs inputs, AttentionTensor outputGradient, out AttentionProblem output)
    {
        AttentionProblem problem = Check(inputs, out output);
        ProblemBuilder.CheckOutputGradient(_device, output, outputGradient, nameof(outputGradient));
        if (_cuda is not null)
        {
            ProblemBuilder.CheckSameType(inputs.Query, nameof(inputs.Query), (outputGradient, nameof(outputGradient)));
        }

        return problem;
    }

    private void CheckResult(
        in AttentionProblem problem, in AttentionProblem output, GroupedDifferentialInputs inputs, GroupedDifferentialResult into)
    {
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, output, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp, nameof(into.LogSumExp));
        if (into.HeadOutputs is { } heads)
        {
            DeviceGuard.OnlyOn(_device, "A result with the heads' own outputs", AttentionDeviceKind.Cuda);
            ProblemBuilder.CheckOutput(_device, problem, heads, nameof(into.HeadOutputs), inputs.Query.Type);
        }
    }

    private AttentionProblem Check(GroupedDifferentialInputs inputs, out AttentionProblem output)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        AttentionProblem problem = ProblemBuilder.Build(
            _device, _options.Mask, inputs.Query, nameof(inputs.Query), inputs.Key, nameof(inputs.Key), inputs.Value, nameof(inputs.Value));
        ProblemBuilder.CheckScores(_device, problem, _options.Scores, rowFactors: null);
        int group = _options.Signals + 1;
        if (problem.QueryHeads % group != 0)
        {
            throw Guard.Tensor(
                nameof(inputs.Query),
                $"Query has {problem.QueryHeads} heads; they have to be a multiple of Signals + 1 = {group}.");
        }

        output = _options.ToParameters().OutputProblem(problem);
        TensorGuard.Input(inputs.LambdaLogit, nameof(inputs.LambdaLogit), _device);
        TensorGuard.Shape(inputs.LambdaLogit, nameof(inputs.LambdaLogit), output.RowShape, "[batch, signal heads, queries, 1]");
        ProblemBuilder.CheckEpilogue(_device, output, _options.Epilogue, inputs.NormGain, inputs.Gate);
        _cuda?.Check(inputs);
        return problem;
    }
}
