namespace SieveAttention;

/// <summary>
/// Gradients of <see cref="DifferentialAttention"/>: each tensor has the shape of its input and is absent where that is. Owns its tensors.
/// From a CUDA device they lie in device memory, and reading <see cref="Lambda"/> or <see cref="LambdaVectors"/> waits for the stream on
/// which they were computed. Thread-safe to read.
/// </summary>
public sealed class DifferentialGradients : IDisposable
{
    private readonly Lock _reading = new();
    private IReadOnlyList<double>? _lambda;
    private AttentionTensor? _vectors;
    private DifferentialLambda? _source;
    private AttentionStream? _stream;

    internal DifferentialGradients()
    {
    }

    /// <summary>Gradient of the first query view.</summary>
    public required AttentionTensor Query1 { get; init; }

    /// <summary>Gradient of the first key view.</summary>
    public required AttentionTensor Key1 { get; init; }

    /// <summary>Gradient of the second query view.</summary>
    public required AttentionTensor Query2 { get; init; }

    /// <summary>Gradient of the second key view.</summary>
    public required AttentionTensor Key2 { get; init; }

    /// <summary>Gradient of the values.</summary>
    public required AttentionTensor Value { get; init; }

    /// <summary>
    /// Gradient of lambda: one number where lambda was one (also where it came from vectors), else one a query head.
    /// </summary>
    public IReadOnlyList<double> Lambda
    {
        get
        {
            Read();
            return _lambda!;
        }
        internal init => _lambda = value;
    }

    /// <summary>Gradient of the lambda vectors, [1, 1, 4, D], in host memory; absent where lambda was given finished.</summary>
    public AttentionTensor? LambdaVectors
    {
        get
        {
            Read();
            return _vectors;
        }
        internal init => _vectors = value;
    }

    /// <summary>The numbers of <see cref="Lambda"/> in device memory, Float32; null on host devices.</summary>
    public AttentionTensor? LambdaSums { get; init; }

    /// <summary>Gradient of the norm's gain, [1, 1, 1, Dv].</summary>
    public AttentionTensor? NormGain { get; init; }

    /// <summary>Gradient of the gate's logits, [B, Hq, Tq, 1].</summary>
    public AttentionTensor? Gate { get; init; }

    /// <summary>Disposes the tensors.</summary>
    public void Dispose()
    {
        Query1.Dispose();
        Key1.Dispose();
        Query2.Dispose();
        Key2.Dispose();
        Value.Dispose();
        _vectors?.Dispose();
        LambdaSums?.Dispose();
        NormGain?.Dispose();
        Gate?.Dispose();
    }

    /// <summary>Says from which lambda the sums come, and on which stream.</summary>
    internal void Written(DifferentialLambda source, AttentionStream? stream)
    {
        lock (_reading)
        {
            _vectors?.Dispose();
            _vectors = null;
            _lambda = null;
            _source = source;
            _stream = stream;
        }
    }

    private void Read()
    {
        lock (_reading)
        {
            if (_lambda is not null)
            {
                return;
            }

            if (_source is null)
            {
                throw new InvalidOperationException("The gradients have not been computed; give the object to Backward first.");
            }

            using AttentionTensor host = LambdaSums!.ToHost(_stream);
            double[] sums = HostArray<double>.Read(host).Data;
            _vectors = HostTensors.WrapOptional(_source.VectorGradient<float>(sums));
            _lambda = sums;
        }
    }
}
