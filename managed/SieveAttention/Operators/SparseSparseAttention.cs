namespace SieveAttention;

/// <summary>
/// Sparse sparse attention (SSA, arXiv 2511.20102): every query row of every key head chooses a few blocks of keys and attends to these
/// (sparse stream), or to all visible keys (full stream); both streams share queries, keys and values, so a model can be trained with
/// either and run with either.
/// <code>
/// t = i + query offset,  block b = keys [b block_size, (b+1) block_size),  cb = t div block_size,  scale = 1 / sqrt(D)
/// kc_b  = mean of the keys of block b
/// I_b   = sum over the heads h of the group of exp(scale q_h . kc_b - logsumexp_b' scale q_h . kc_b'),   b &lt; cb
///         (logsumexp over the completely visible blocks b' &lt; (t+1) div block_size)
/// Sel   = cb and the block_count - 1 other blocks of largest I
/// J_s   = { j &lt;= t : j div block_size in Sel },   J_f = { j &lt;= t }
/// L_x   = logsumexp over J_x of scale q_i . k_j,   o_x = sum over J_x of exp(scale q_i . k_j - L_x) value_j,   h_x = epilogue(o_x)
/// alignment loss = SL1(h_f, stop(h_s)) + SL1(stop(h_f), h_s),   SL1 = mean SmoothL1 with beta 1
/// </code>
/// Query head h uses key and value head h / (Hq / Hkv), and all heads of such a group share one selection. Ties go to the smaller block.
/// </summary>
/// <remarks>
/// <para>
/// Causal only, without window, row factor and ALiBi slopes; every query row has to lie inside the keys (0 &lt;= query offset, query
/// offset + Tq &lt;= Tk). The selection has no gradient. Runs on the Reference and Cpu devices. The Cpu device visits only the selected
/// blocks for the sparse stream; its selection is that of float64 arithmetic on its float32 inputs, exact wherever candidates are not
/// closer than float64 rounding.
/// </para>
/// <para>
/// An instance is immutable and may be used from several threads; tensors are the caller's. On the Cpu device nothing but the last digits
/// of the gradients of keys and values depends on the number of threads.
/// </para>
/// </remarks>
public sealed class SparseSparseAttention
{
    private readonly AttentionDevice _device;
    private readonly SparseSparseOptions _options;

    /// <summary>Makes the operator.</summary>
    /// <param name="device">Where to compute; must outlive the operator.</param>
    /// <param name="options">Parameters.</param>
    /// <exception cref="ArgumentOutOfRangeException">
    /// A parameter is out of range, or one that has no meaning for this operator is set; names the property.
    /// </exception>
    public SparseSparseAttention(AttentionDevice device, SparseSparseOptions options)
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
    public SparseSparseOptions Options => _options;

    /// <summary>Computes everything of the stream into new tensors in host memory: Float64 on Reference, Float32 on Cpu.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <returns>The result, owned by the caller.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    public SparseSparseResult Forward(SparseSparseInputs inputs)
    {
        AttentionProblem problem = Check(inputs);
        TensorType type = _device.Kind == AttentionDeviceKind.Reference ? TensorType.Float64 : TensorType.Float32;
        bool sparse = _options.Stream != SparseSparseMode.Full;
        bool full = _options.Stream != SparseSparseMode.Sparse;
        SparseSparseResult result = new()
        {
            SparseOutput = sparse ? AttentionTensor.Allocate(type, problem.OutputShape) : null,
            FullOutput = full ? AttentionTensor.Allocate(type, problem.OutputShape) : null,
            SparseLogSumExp = sparse ? AttentionTensor.Allocate(type, problem.RowShape) : null,
            FullLogSumExp = full ? AttentionTensor.Allocate(type, problem.RowShape) : null,
            BlockIndices = sparse ? AttentionTensor.Allocate(TensorType.Int32, BlockLists.ShapeOf(problem, _options.BlockCount)) : null,
            AlignmentLoss = sparse && full ? AttentionTensor.Allocate(type, new TensorShape(1, 1, 1, 1)) : null,
        };
        try
        {
            HostSparseSparse.Forward(_device, problem, _options, inputs, result);
            return result;
        }
        catch
        {
            result.Dispose();
            throw;
        }
    }

    /// <summary>Computes into the caller's tensors.</summary>
    /// <param name="inputs">Tensors to read.</param>
    /// <param name="into">
    /// Tensors to write: the output of every computed stream, and whatever else is wanted of those streams; they must not share memory
    /// with the inputs. Outputs have any floating-point type, logarithms and the loss Float64 or Float32. Elements between strided rows
    /// stay as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type, in the wrong memory or not writable.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    /// <exception cref="ObjectDisposedException">A tensor or the device has been disposed.</exception>
    public void Forward(SparseSparseInputs inputs, SparseSparseResult into)
    {
        AttentionProblem problem = Check(inputs);
        CheckResult(problem, inputs, into);
        HostSparseSparse.Forward(_device, problem, _options, inputs, into);
    }

    /// <summary>Computes the gradients for the sparse or the full stream, plus those of the weighted alignment loss.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="outputGradient">Gradient of the stream's output, [B, Hq, Tq, Dv], any floating-point type.</param>
    /// <returns>Gradients in host memory, owned by the caller: Float64 from Reference, Float32 from Cpu.</returns>
    /// <exception cref="InvalidOperationException">The stream is Both, which has two outputs.</exception>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public SparseSparseGradients Backward(SparseSparseInputs inputs, AttentionTensor outputGradient)
    {
        ArgumentNullException.ThrowIfNull(outputGradient);
        return _options.Stream switch
        {
            SparseSparseMode.Sparse => Backward(inputs, outputGradient, null),
            SparseSparseMode.Full => Backward(inputs, null, outputGradient),
            _ => throw new InvalidOperationException(
                "Stream is Both, which has two outputs; give both gradients, or null for an output without one."),
        };
    }

    /// <summary>Computes the gradients for outputs of both streams, plus those of the weighted alignment loss.</summary>
    /// <param name="inputs">The tensors of the forward pass.</param>
    /// <param name="sparseGradient">Gradient of the sparse output, [B, Hq, Tq, Dv]; null = 0.</param>
    /// <param name="fullGradient">Gradient of the full output, [B, Hq, Tq, Dv]; null = 0.</param>
    /// <returns>Gradients in host memory, owned by the caller: Float64 from Reference, Float32 from Cpu.</returns>
    /// <exception cref="ArgumentException">
    /// A tensor is missing, misshapen, of a wrong type or in the wrong memory, or belongs to a stream that is not computed.
    /// </exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public SparseSparseGradients Backward(SparseSparseInputs inputs, AttentionTensor? sparseGradient, AttentionTensor? fullGradient)
    {
        AttentionProblem problem = Check(inputs);
        CheckGradient(problem, sparseGradient, nameof(sparseGradient), SparseSparseMode.Full);
        CheckGradient(problem, fullGradient, nameof(fullGradient), SparseSparseMode.Sparse);
        return HostSparseSparse.Backward(_device, problem, _options, inputs, sparseGradient, fullGradient);
    }

    /// <summary>Computes both streams, whatever the options say, and what the sparse one leaves out.</summary>
    /// <param name="inputs">Tensors to read; gain and gate do not matter.</param>
    /// <returns>One value a row in host memory, owned by the caller: Float64 from Reference, Float32 from Cpu.</returns>
    /// <exception cref="ArgumentException">A tensor is missing, misshapen, of a wrong type or in the wrong memory.</exception>
    /// <exception cref="NotSupportedException">The device does not have this operator.</exception>
    public SparseSparseStatistics Statistics(SparseSparseInputs inputs) =>
        HostSparseSparse.Statistics(_device, Check(inputs), _options, inputs);

    private AttentionProblem Check(SparseSparseInputs inputs)
    {
        ArgumentNullException.ThrowIfNull(inputs);
        DeviceGuard.OnlyOn(_device, "Sparse sparse attention", AttentionDeviceKind.Reference, AttentionDeviceKind.Cpu);
        AttentionProblem problem = ProblemBuilder.Build(
            _device, _options.Mask, inputs.Query, nameof(inputs.Query), inputs.Key, nameof(inputs.Key), inputs.Value, nameof(inputs.Value));
        if (problem.QueryOffset < 0 || problem.QueryOffset + problem.Queries > problem.Keys)
        {
            throw Guard.OutOfRange(
                nameof(AttentionMask.QueryOffset),
                problem.QueryOffset,
                problem.Queries > problem.Keys
                    ? $"none with {problem.Queries} queries and {problem.Keys} keys, because every query row has to lie inside the keys"
                    : $"0 to {problem.Keys - problem.Queries}, so that every query row lies inside the keys");
        }

        ProblemBuilder.CheckEpilogue(_device, problem, _options.Epilogue, inputs.NormGain, inputs.Gate);
        if (inputs.BlockIndices is { } indices)
        {
            CheckIndices(problem, indices);
        }

        return problem;
    }

    private void CheckIndices(in AttentionProblem problem, AttentionTensor indices)
    {
        indices.ThrowIfDisposed();
        TensorGuard.Shape(
            indices,
            nameof(SparseSparseInputs.BlockIndices),
            BlockLists.ShapeOf(problem, _options.BlockCount),
            "[batch, key heads, queries, block_count]");
        TensorGuard.Type(indices, nameof(SparseSparseInputs.BlockIndices), TensorType.Int32);
        if (!indices.IsOnHost)
        {
            throw Guard.Tensor(
                nameof(SparseSparseInputs.BlockIndices),
                $"BlockIndices is {indices}; {_device.Name} takes tensors in host memory. Use ToHost() first.");
        }
    }

    private void CheckGradient(in AttentionProblem problem, AttentionTensor? gradient, string name, SparseSparseMode refused)
    {
        if (gradient is null)
        {
            return;
        }

        if (_options.Stream == refused)
        {
            throw Guard.Tensor(name, $"{name} is given, but Stream is {refused}; allowed: gradients of outputs that are computed.");
        }

        ProblemBuilder.CheckOutputGradient(_device, problem, gradient, name);
    }

    private void CheckResult(in AttentionProblem problem, SparseSparseInputs inputs, SparseSparseResult into)
    {
        ArgumentNullException.ThrowIfNull(into);
        bool sparse = _options.Stream != SparseSparseMode.Full;
        bool full = _options.Stream != SparseSparseMode.Sparse;
        Wanted(into.SparseOutput, nameof(into.SparseOutput), sparse);
        Wanted(into.SparseLogSumExp, nameof(into.SparseLogSumExp), sparse);
        Wanted(into.BlockIndices, nameof(into.BlockIndices), sparse);
        Wanted(into.FullOutput, nameof(into.FullOutput), full);
        Wanted(into.FullLogSumExp, nameof(into.FullLogSumExp), full);
        Wanted(into.AlignmentLoss, nameof(into.AlignmentLoss), sparse && full);
        if (sparse)
        {
            ProblemBuilder.CheckOutput(_device, problem, into.SparseOutput!, nameof(into.SparseOutput), inputs.Query.Type);
        }

        if (full)
        {
            ProblemBuilder.CheckOutput(_device, problem, into.FullOutput!, nameof(into.FullOutput), inputs.Query.Type);
        }

        if (into.SparseLogSumExp is { } sparseRows)
        {
            ProblemBuilder.CheckRows(_device, problem, sparseRows, nameof(into.SparseLogSumExp));
        }

        if (into.FullLogSumExp is { } fullRows)
        {
            ProblemBuilder.CheckRows(_device, problem, fullRows, nameof(into.FullLogSumExp));
        }

        if (into.BlockIndices is { } indices)
        {
            TensorGuard.Output(
                indices,
                nameof(into.BlockIndices),
                _device,
                BlockLists.ShapeOf(problem, _options.BlockCount),
                "[batch, key heads, queries, block_count]",
                TensorType.Int32);
        }

        if (into.AlignmentLoss is { } loss)
        {
            TensorGuard.Output(
                loss,
                nameof(into.AlignmentLoss),
                _device,
                new TensorShape(1, 1, 1, 1),
                "[1, 1, 1, 1]",
                TensorType.Float64,
                TensorType.Float32);
        }
    }

    private void Wanted(AttentionTensor? tensor, string name, bool computed)
    {
        if (tensor is not null && !computed)
        {
            throw Guard.Tensor(name, $"{name} is given, but Stream is {_options.Stream}; allowed: tensors of what is computed.");
        }
    }
}
