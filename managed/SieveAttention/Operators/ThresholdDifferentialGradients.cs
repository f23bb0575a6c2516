namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="ThresholdDifferentialAttention"/>: each tensor has the shape of its input and is absent where that
/// is. Owns its tensors, which are in host memory, Float64 from the Reference device and Float32 from the Cpu device, or in the memory of
/// a CUDA device; there, reading the gradients of beta, kappa and lambda waits for the stream on which they were computed. Thread-safe
/// to read.
/// </summary>
public sealed class ThresholdDifferentialGradients : IDisposable
{
    private const int ParameterCount = 3;

    private readonly double[] _headBeta = [];
    private readonly double[] _headLambda = [];
    private readonly double _kappa;
    private AttentionStream? _stream;
    private bool _isWritten;

    /// <summary>Takes over tensors for a CUDA device to write to.</summary>
    /// <param name="query1">Like the first query view: its type or Float32.</param>
    /// <param name="key1">Like the first key view: its type or Float32.</param>
    /// <param name="query2">Like the second query view; absent exactly where that is.</param>
    /// <param name="key2">Like the second key view; absent exactly where that is.</param>
    /// <param name="value">Like the values: their type or Float32.</param>
    /// <param name="normGain">Float32 [1, 1, 1, Dv], dense; where it is wanted and there is a norm.</param>
    /// <param name="gate">Float32 [B, Hq, Tq, 1]; where it is wanted and there is a gate.</param>
    /// <param name="parameters">Float32 [1, 3, Hq, 1], dense, for beta, kappa and lambda of each query head; where they are wanted.</param>
    public ThresholdDifferentialGradients(
        AttentionTensor query1,
        AttentionTensor key1,
        AttentionTensor? query2,
        AttentionTensor? key2,
        AttentionTensor value,
        AttentionTensor? normGain = null,
        AttentionTensor? gate = null,
        AttentionTensor? parameters = null)
    {
        ArgumentNullException.ThrowIfNull(query1);
        ArgumentNullException.ThrowIfNull(key1);
        ArgumentNullException.ThrowIfNull(value);
        Query1 = query1;
        Key1 = key1;
        Query2 = query2;
        Key2 = key2;
        Value = value;
        NormGain = normGain;
        Gate = gate;
        Parameters = parameters;
    }

    /// <summary>Takes over what a host device has computed.</summary>
    internal ThresholdDifferentialGradients(
        AttentionTensor query1,
        AttentionTensor key1,
        AttentionTensor? query2,
        AttentionTensor? key2,
        AttentionTensor value,
        AttentionTensor? normGain,
        AttentionTensor? gate,
        double[] headBeta,
        double kappa,
        double[] headLambda)
        : this(query1, key1, query2, key2, value, normGain, gate)
    {
        _headBeta = headBeta;
        _kappa = kappa;
        _headLambda = headLambda;
        _isWritten = true;
    }

    /// <summary>Gradient of the first query view.</summary>
    public AttentionTensor Query1 { get; }

    /// <summary>Gradient of the first key view.</summary>
    public AttentionTensor Key1 { get; }

    /// <summary>Gradient of the second query view.</summary>
    public AttentionTensor? Query2 { get; }

    /// <summary>Gradient of the second key view.</summary>
    public AttentionTensor? Key2 { get; }

    /// <summary>Gradient of the values.</summary>
    public AttentionTensor Value { get; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; }

    /// <summary>
    /// Gradients of beta, kappa and lambda of each query head in device memory, Float32 [1, 3, Hq, 1], undefined for lambda without a
    /// second view; null on host devices, or where they are not wanted.
    /// </summary>
    public AttentionTensor? Parameters { get; }

    /// <summary>Gradient of beta, summed over heads.</summary>
    /// <exception cref="InvalidOperationException">It has not been computed.</exception>
    public double Beta => HeadBeta.Sum();

    /// <summary>Gradient of kappa.</summary>
    /// <exception cref="InvalidOperationException">It has not been computed.</exception>
    public double Kappa => Parameters is null ? Written(_kappa) : Read(1).Sum();

    /// <summary>Gradient of lambda, summed over heads; 0 without a second view.</summary>
    /// <exception cref="InvalidOperationException">It has not been computed.</exception>
    public double Lambda => HeadLambda.Sum();

    /// <summary>Gradient of beta of each query head; their sum is <see cref="Beta"/>.</summary>
    /// <exception cref="InvalidOperationException">It has not been computed.</exception>
    public IReadOnlyList<double> HeadBeta => Parameters is null ? Written(_headBeta) : Read(0);

    /// <summary>Gradient of lambda of each query head; their sum is <see cref="Lambda"/>.</summary>
    /// <exception cref="InvalidOperationException">It has not been computed.</exception>
    public IReadOnlyList<double> HeadLambda => Parameters is null ? Written(_headLambda)
        : Query2 is null ? new double[Parameters.Shape.Rows]
        : Read(2);

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query1.Dispose();
        Key1.Dispose();
        Query2?.Dispose();
        Key2?.Dispose();
        Value.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
        Parameters?.Dispose();
    }

    /// <summary>The shape of <see cref="Parameters"/>.</summary>
    internal static TensorShape ParameterShape(int queryHeads) => new(1, ParameterCount, queryHeads, 1);

    /// <summary>Says that the tensors have been written, and on which stream.</summary>
    internal void MarkWritten(AttentionStream? stream)
    {
        _stream = stream;
        _isWritten = true;
    }

    private T Written<T>(T value) => _isWritten && (Parameters is not null || _headBeta.Length > 0)
        ? value
        : throw new InvalidOperationException(
            "The gradients of beta, kappa and lambda have not been computed; give an object with Parameters to Backward first.");

    private double[] Read(int parameter)
    {
        using AttentionTensor host = Written(Parameters!).ToHost(_stream);
        return HostArray<double>.Read(host.Slice(1, parameter, 1)).Data;
    }
}
