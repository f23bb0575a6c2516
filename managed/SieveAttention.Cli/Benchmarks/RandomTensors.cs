using SieveAttention.Interop;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>
/// Tensors of standard normal deviates in the memory of a device. On a CUDA device they are pieces of one pool, from places that do not
/// repeat in step with rows: gigabytes are there in milliseconds. Zeros, or the same row everywhere, would be measured too fast.
/// </summary>
internal sealed class RandomTensors(AttentionDevice device) : IDisposable
{
    private const int PoolElements = 1 << 24;

    private readonly Dictionary<TensorType, AttentionTensor> _pools = [];
    private int _made;

    /// <summary>A new dense tensor, owned by the caller.</summary>
    public AttentionTensor Next(TensorType type, TensorShape shape)
    {
        _made++;
        if (device is not CudaDevice cuda)
        {
            AttentionTensor host = AttentionTensor.Allocate(type, shape);
            Fill(host.AsMemory<float>(), _made);
            return host;
        }
        AttentionTensor tensor = AttentionTensor.Allocate(type, shape, device);
        AttentionTensor pool = Pool(cuda, type);
        int size = TensorTypes.Size(type);
        long filled = 0;
        // An odd number of 16-byte pieces: consecutive tensors begin elsewhere.
        long from = (_made * 8L * 104_729) % PoolElements;
        while (filled < shape.Count)
        {
            long count = Math.Min(shape.Count - filled, PoolElements - from);
            cuda.Copy(
                tensor.DevicePointer + (nint)(filled * size),
                pool.DevicePointer + (nint)(from * size),
                (ulong)(count * size),
                SieveCopyKind.OnDevice,
                stream: null);
            filled += count;
            from = 8 * 13;
        }
        return tensor;
    }

    /// <summary>Gives the pool back.</summary>
    public void Dispose()
    {
        foreach (AttentionTensor pool in _pools.Values)
        {
            pool.Dispose();
        }
    }

    private AttentionTensor Pool(CudaDevice cuda, TensorType type)
    {
        if (_pools.TryGetValue(type, out AttentionTensor? pool))
        {
            return pool;
        }
        float[] values = new float[PoolElements];
        Fill(values, seed: 1);
        TensorShape shape = new(1, 1, 1, PoolElements);
        using AttentionTensor host = type switch
        {
            TensorType.Float16 => AttentionTensor.From<Half>(Array.ConvertAll(values, value => (Half)value), shape),
            TensorType.BFloat16 => AttentionTensor.From<BFloat16>(Array.ConvertAll(values, value => (BFloat16)value), shape),
            _ => AttentionTensor.From<float>(values, shape),
        };
        pool = host.To(cuda);
        _pools.Add(type, pool);
        return pool;
    }

    private static void Fill(Memory<float> values, int seed)
    {
        const int Piece = 1 << 16;
        Parallel.For(0, (values.Length + Piece - 1) / Piece, piece =>
        {
            Random random = new((seed * 1_000_003) + piece);
            foreach (ref float value in values.Span[(piece * Piece)..Math.Min(values.Length, (piece + 1) * Piece)])
            {
                value = MathF.Sqrt(-2 * MathF.Log(1 - random.NextSingle())) * MathF.Cos(2 * MathF.PI * random.NextSingle());
            }
        });
    }
}
