using System.Runtime.CompilerServices;

namespace SieveAttention.Cpu.Tiles;

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

    /// <summary>target += weight * source; whole vectors, so both need padded rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void AddScaled(float weight, float* source, int channels, float* target)
    {
        TVector factor = TLanes.Broadcast(weight);
        for (int channel = 0; channel < channels; channel += TLanes.Count)
        {
            TLanes.Store(target + channel, TLanes.MultiplyAdd(factor, TLanes.Load(source + channel), TLanes.Load(target + channel)));
        }
    }

    /// <summary>Inner product of two rows whose padding is zero.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static float Dot(float* a, float* b, int channels)
    {
        TVector sum = default;
        for (int channel = 0; channel < channels; channel += TLanes.Count)
        {
            sum = TLanes.MultiplyAdd(TLanes.Load(a + channel), TLanes.Load(b + channel), sum);
        }

        return TLanes.Sum(sum);
    }
}
