using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Pooled keys of all complete blocks as columns: in double, with the same bits as those of the reference from the same keys, and rounded
/// to float. A short last block is never scored.
/// </summary>
internal sealed class PooledBlocks : IDisposable
{
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
        ExactStride = (Count + 15) / 16 * 16;
        _exact = new double[heads][];
        _columns = new ColumnPanels[heads];
        _largestNorm = new double[heads];
        int channels = problem.HeadDim;
        for (int head = 0; head < heads; head++)
        {
            _exact[head] = new double[(long)ExactStride * channels];
            _columns[head] = new ColumnPanels(_arena, Math.Max(Count, 1), channels, panelColumns);
        }

        Workers.Run(execution with { Progress = null }, heads, head => Fill((int)head, blockSize, channels, k));
    }

    /// <summary>Complete blocks of a head.</summary>
    internal int Count { get; }

    /// <summary>Elements from one channel to the next of <see cref="Exact"/>: whole vectors of two registers, zero after the last block.</summary>
    internal int ExactStride { get; }

    /// <summary>kc in double as columns: channel by channel, the blocks side by side.</summary>
    internal ReadOnlySpan<double> Exact(int batch, int keyHead) => _exact[(batch * _keyHeads) + keyHead];

    /// <summary>kc as columns.</summary>
    internal ColumnPanels Columns(int batch, int keyHead) => _columns[(batch * _keyHeads) + keyHead];

    /// <summary>Largest |kc| of a head.</summary>
    internal double LargestNorm(int batch, int keyHead) => _largestNorm[(batch * _keyHeads) + keyHead];

    public void Dispose() => _arena.Dispose();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Fill(int head, int blockSize, int channels, HostArray<float> k)
    {
        ReadOnlySpan<float> keys = k.Head(head / _keyHeads, head % _keyHeads);
        double[] exact = _exact[head];
        float[] rounded = new float[(long)Count * channels];
        double[] kc = new double[channels];
        double largest = 0;
        for (int block = 0; block < Count; block++)
        {
            Array.Clear(kc);
            for (int j = block * blockSize; j < (block + 1) * blockSize; j++)
            {
                ReadOnlySpan<float> key = keys.Slice(j * channels, channels);
                for (int c = 0; c < channels; c++)
                {
                    kc[c] += key[c];
                }
            }

            double square = 0;
            for (int c = 0; c < channels; c++)
            {
                kc[c] /= blockSize;
                square += kc[c] * kc[c];
                exact[(c * ExactStride) + block] = kc[c];
                rounded[(block * channels) + c] = (float)kc[c];
            }

            largest = Math.Max(largest, Math.Sqrt(square));
        }

        _largestNorm[head] = largest;
        for (int tile = 0; tile * ColumnPanels.TileRows < Count; tile++)
        {
            _columns[head].Fill(rounded, tile, Math.Min(ColumnPanels.TileRows, Count - (tile * ColumnPanels.TileRows)));
        }
    }
}
