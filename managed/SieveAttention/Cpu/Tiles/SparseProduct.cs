using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

/// <summary>A few weights of one row and the rows of B they belong to, in ascending order: the sparse counterpart of a row of A.</summary>
internal sealed unsafe class WeightList : IDisposable
{
    private readonly AlignedBuffer _weights = new(ColumnPanels.TileRows);
    private readonly int[] _rows = GC.AllocateArray<int>(ColumnPanels.TileRows, pinned: true);

    internal int Count { get; private set; }

    internal float* Weights => _weights.Data;

    internal int* Rows => (int*)Unsafe.AsPointer(ref _rows[0]);

    internal void Clear() => Count = 0;

    internal void Add(int row, float weight)
    {
        _rows[Count] = row;
        Weights[Count++] = weight;
    }

    public void Dispose() => _weights.Dispose();
}

/// <summary>
/// Products with a sparse left factor. Sums run over the same keys in the same order and with the same fused steps as
/// <see cref="TileProduct{TLanes, TVector}"/>, which adds exact zeros in between: both give the same bits where B is finite.
/// Where B holds NaN or infinity only this form is right, because 0 times NaN is NaN.
/// </summary>
internal static unsafe class SparseProduct<TLanes, TVector>
    where TLanes : struct, ILanes<TVector>
    where TVector : struct
{
    /// <summary>target += sum of weight[n] * B[row[n]]; whole vectors, so target and B need padded rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Gather(WeightList list, float* b, nint bStride, int channels, float* target)
    {
        int width = TLanes.Count;
        int count = list.Count;
        float* weights = list.Weights;
        int* rows = list.Rows;
        int channel = 0;
        for (; channel + width < channels; channel += 2 * width)
        {
            TVector sum0 = TLanes.Load(target + channel);
            TVector sum1 = TLanes.Load(target + channel + width);
            for (int n = 0; n < count; n++)
            {
                TVector weight = TLanes.Broadcast(weights[n]);
                float* row = b + (rows[n] * bStride) + channel;
                sum0 = TLanes.MultiplyAdd(weight, TLanes.Load(row), sum0);
                sum1 = TLanes.MultiplyAdd(weight, TLanes.Load(row + width), sum1);
            }

            TLanes.Store(target + channel, sum0);
            TLanes.Store(target + channel + width, sum1);
        }

        if (channel < channels)
        {
            TVector sum = TLanes.Load(target + channel);
            for (int n = 0; n < count; n++)
            {
                sum = TLanes.MultiplyAdd(TLanes.Broadcast(weights[n]), TLanes.Load(b + (rows[n] * bStride) + channel), sum);
            }

            TLanes.Store(target + channel, sum);
        }
    }

    /// <summary>B[row[n]] += weight[n] * source for every n: the transposed product.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Scatter(WeightList list, float* source, int channels, float* b, nint bStride)
    {
        int width = TLanes.Count;
        for (int n = 0; n < list.Count; n++)
        {
            TVector weight = TLanes.Broadcast(list.Weights[n]);
            float* row = b + (list.Rows[n] * bStride);
            for (int channel = 0; channel < channels; channel += width)
            {
                TLanes.Store(row + channel, TLanes.MultiplyAdd(weight, TLanes.Load(source + channel), TLanes.Load(row + channel)));
            }
        }
    }

    /// <summary>Inner product of two padded rows, in the order of one lane of a dense product.</summary>
    internal static float Dot(float* a, float* b, int channels)
    {
        float sum = 0;
        for (int channel = 0; channel < channels; channel++)
        {
            sum = MathF.FusedMultiplyAdd(a[channel], b[channel], sum);
        }

        return sum;
    }
}
