using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Blocks;

/// <summary>
/// Keys and values of every key head, block by block, in the forms that the forward pass reads: the keys of a block as columns, channel by
/// channel side by side and padded by zeros to whole vectors; values as rows. Packed once on all cores; memory of the size of the inputs.
/// </summary>
internal sealed unsafe class BlockPanels : IDisposable
{
    private readonly FloatArena _arena = new(FloatArena.Large);
    private readonly AttentionProblem _problem;
    private readonly int _blockSize;
    private readonly int _count;
    private readonly float* _keys;
    private readonly PaddedRows _values;

    internal BlockPanels(in AttentionProblem problem, CpuExecution execution, int blockSize, HostArray<float> k, HostArray<float> v, int width)
    {
        _problem = problem;
        _blockSize = blockSize;
        _count = (problem.Keys - 1) / blockSize + 1;
        Columns = (blockSize + width - 1) / width * width;
        long heads = (long)problem.Batch * problem.KeyHeads;
        _keys = _arena.Take(heads * _count * Columns * problem.HeadDim);
        _values = new PaddedRows(_arena, problem.Batch * problem.KeyHeads * problem.Keys, problem.ValueDim);
        Workers.Run(execution with { Progress = null }, heads * _count, task => Fill((int)(task / _count), (int)(task % _count), k, v));
    }

    /// <summary>Columns of a block with their padding: block_size up to a multiple of the vector width.</summary>
    internal int Columns { get; }

    /// <summary>The keys of a block: channel by channel, <see cref="Columns"/> apart.</summary>
    internal float* Keys(int batch, int keyHead, int block) => Block(Head(batch, keyHead), block);

    /// <summary>The values from a key on: key by key, <see cref="ValueStride"/> apart.</summary>
    internal float* Values(int batch, int keyHead, int key) => _values.Row((Head(batch, keyHead) * _problem.Keys) + key);

    internal int ValueStride => _values.Stride;

    public void Dispose() => _arena.Dispose();

    private int Head(int batch, int keyHead) => (batch * _problem.KeyHeads) + keyHead;

    private float* Block(int head, int block) => _keys + ((((nint)head * _count) + block) * Columns * _problem.HeadDim);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Fill(int head, int block, HostArray<float> k, HostArray<float> v)
    {
        (int batch, int keyHead) = Math.DivRem(head, _problem.KeyHeads);
        int first = block * _blockSize;
        int count = Math.Min(_blockSize, _problem.Keys - first);
        int channels = _problem.HeadDim;
        float* target = Block(head, block);
        fixed (float* keys = k.Head(batch, keyHead).Slice(first * channels, count * channels))
        {
            Transposition.Copy(keys, channels, count, channels, target, Columns);
        }

        for (int channel = 0; count < Columns && channel < channels; channel++)
        {
            new Span<float>(target + ((nint)channel * Columns) + count, Columns - count).Clear();
        }

        _values.Fill(
            v.Head(batch, keyHead).Slice(first * _problem.ValueDim, count * _problem.ValueDim), (head * _problem.Keys) + first, count);
    }
}
