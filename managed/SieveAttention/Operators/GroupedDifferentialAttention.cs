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
/// Runs on the Reference and Cpu devices, forward and backward. An instance is immutable and may be used from several threads; tensors are
/// the caller's. On the Cpu device nothing but the last digits of the gradients of keys and values depends on the number of threads.
/// </remarks>
public sealed class GroupedDifferentialAttention
{
    private readonly AttentionDevice _device;
    private readonly GroupedDifferentialOptions _options;

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
    }

    /// <summary>The device that computes.</summary>
    public AttentionDevice Device => _device;

    /// <summary>The parameters.</summary>
    public GroupedDifferentialOptions Options => _options;

    /// <summary>Computes into new tensors in host memory: Float64 on the Reference device, Float32 on the Cpu device.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the query heads are not a multiple of a group.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public GroupedDifferentialResult Forward(GroupedDifferentialInputs inputs)
    {
        AttentionProblem problem = Check("Grouped differential attention", inputs, out AttentionProblem output);
        GroupedDifferentialResult result = new(
            HostTensors.Allocate(_device, output.OutputShape), HostTensors.Allocate(_device, problem.RowShape));
        HostGroupedDifferential.Forward(_device, problem, _options, inputs, result);
        return result;
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write; they must not share memory with the inputs. Elements between strided rows stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable; the query heads are not a multiple of a group.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public void Forward(GroupedDifferentialInputs inputs, GroupedDifferentialResult into)
    {
        AttentionProblem problem = Check("Grouped differential attention", inputs, out AttentionProblem output);
        ArgumentNullException.ThrowIfNull(into);
        ProblemBuilder.CheckOutput(_device, output, into.Output, nameof(into.Output), inputs.Query.Type);
        ProblemBuilder.CheckRows(_device, problem, into.LogSumExp, nameof(into.LogSumExp));
        HostGroupedDifferential.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients of the inputs.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the output, [B, Ho, Tq, Dv], any floating-point type.</param>
    /// <returns>
    /// Gradients in host memory, owned by the caller: Float64 from the Reference device, Float32 from the Cpu device.
    /// </returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory; the query heads are not a multiple of a group.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator; says which do.</exception>
    /// <exception cref="ObjectDisposedException">A tensor has been disposed.</exception>
    public GroupedDifferentialGradients Backward(GroupedDifferentialInputs inputs, AttentionTensor outputGradient)
    {
        AttentionProblem problem = Check("Backward of grouped differential attention", inputs, out AttentionProblem output);
        ProblemBuilder.CheckOutputGradient(_device, output, outputGradient, nameof(outputGradient));
        return HostGroupedDifferential.Backward(_device, problem, _options, inputs, outputGradient);
    }

    private AttentionProblem Check(string what, GroupedDifferentialInputs inputs, out AttentionProblem output)
    {
        DeviceGuard.OnlyOn(_device, what, AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
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
        return problem;
    }
}
