using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Pooled keys of all complete blocks as columns: in double, with the same bits as those of the reference from the same keys, and rounded
/// to float. A short last block is never scored.
/// </summary>
internal sealed class PooledBlocks : IDisposable
{
    private const int Line = 8;

    private readonly FloatArena _arena = new(FloatArena.Small);
    private readonly int _keyHeads;
    private readonly double[][] _exact;
    private readonly ColumnPanels[] _columns;
    private readonly double[] _largestNorm;

    internal PooledBlocks(in AttentionProblem problem, CpuExecution execution, int blockSize, HostArray<float> k, int panelColumns)
    {
        _keyHeads = problem.KeyHeads;
        int heads = problem.Batch * problem.KeyHeads;
        Count = problem.Keys / blockSize;
        // Eight more than whole pairs of vectors: channels a multiple of 4 KB apart would fall on the same few places of the cache.
        ExactStride = ((Count + 15) / 16 * 16) + 8;
        _exact = new double[heads][];
        _columns = new ColumnPanels[heads];
        int channels = problem.HeadDim;
        for (int head = 0; head < heads; head++)
        {
            _exact[head] = ArrayPool<double>.Shared.Rent(ExactStride * channels);
            _columns[head] = new ColumnPanels(_arena, Math.Max(Count, 1), channels, panelColumns);
        }

        int tiles = ((Count - 1) / ColumnPanels.TileRows) + 1;
        double[] norms = new double[heads * tiles];
        Workers.Run(execution with { Progress = null }, norms.Length, task =>
            norms[task] = Fill((int)task / tiles, (int)task % tiles, blockSize, channels, k));
        _largestNorm = [.. norms.Chunk(tiles).Select(head => head.Max())];
    }

    /// <summary>Complete blocks of a head.</summary>
    internal int Count { get; }

    /// <summary>Elements from one channel to the next of <see cref="Exact"/>: a multiple of 16 and more; zero after the last block.</summary>
    internal int ExactStride { get; }

    /// <summary>kc in double as columns: channel by channel, the blocks side by side.</summary>
    internal ReadOnlySpan<double> Exact(int batch, int keyHead) => _exact[(batch * _keyHeads) + keyHead];

    /// <summary>kc as columns.</summary>
    internal ColumnPanels Columns(int batch, int keyHead) => _columns[(batch * _keyHeads) + keyHead];

    /// <summary>Largest |kc| of a head.</summary>
    internal double LargestNorm(int batch, int keyHead) => _largestNorm[(batch * _keyHeads) + keyHead];

    public void Dispose()
    {
        Array.ForEach(_exact, array => ArrayPool<double>.Shared.Return(array));
        _arena.Dispose();
    }

    /// <summary>Pools the blocks of one tile of a head; returns the largest of their norms.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private unsafe double Fill(int head, int tile, int blockSize, int channels, HostArray<float> k)
    {
        ReadOnlySpan<float> keys = k.Head(head / _keyHeads, head % _keyHeads);
        Span<double> exact = _exact[head];
        int firstBlock = tile * ColumnPanels.TileRows;
        int blocks = Math.Min(ColumnPanels.TileRows, Count - firstBlock);
        float[] rounded = new float[ColumnPanels.TileRows * channels];
        double[] pooled = new double[Line * channels];
        double largest = 0;
        for (int first = 0; first < blocks; first += Line)
        {
            int count = Math.Min(Line, blocks - first);
            for (int n = 0; n < count; n++)
            {
                Span<double> kc = pooled.AsSpan(n * channels, channels);
                AddRows(keys.Slice((firstBlock + first + n) * blockSize * channels, blockSize * channels), kc);
                double square = 0;
                for (int c = 0; c < channels; c++)
                {
                    kc[c] /= blockSize;
                    square += kc[c] * kc[c];
                    rounded[((first + n) * channels) + c] = (float)kc[c];
                }

                largest = Math.Max(largest, Math.Sqrt(square));
            }

            // A cache line of a channel at a time.
            for (int c = 0; c < channels; c++)
            {
                Span<double> column = exact.Slice((c * ExactStride) + firstBlock + first, count);
                for (int n = 0; n < count; n++)
                {
                    column[n] = pooled[(n * channels) + c];
                }
            }
        }

        if (firstBlock + blocks == Count)
        {
            for (int c = 0; c < channels; c++)
            {
                exact.Slice((c * ExactStride) + Count, ExactStride - Count).Clear();
            }
        }

        if (blocks > 0)
        {
            fixed (float* rows = rounded)
            {
                _columns[head].Fill(tile, rows, channels, blocks);
            }
        }

        return largest;
    }

    /// <summary>Sums of the channels of row-major rows, each in the order of the rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddRows(ReadOnlySpan<float> rows, Span<double> sums)
    {
        int channels = sums.Length;
        int channel = 0;
        for (; channel + Vector256<float>.Count <= channels; channel += Vector256<float>.Count)
        {
            Vector512<double> sum = default;
            for (int start = channel; start < rows.Length; start += channels)
            {
                sum += Vector512.WidenLower(Vector256.Create(rows[start..]).ToVector512Unsafe());
            }

            sum.CopyTo(sums[channel..]);
        }

        for (; channel < channels; channel++)
        {
            double sum = 0;
            for (int start = channel; start < rows.Length; start += channels)
            {
                sum += rows[start];
            }

            sums[channel] = sum;
        }
    }
}
