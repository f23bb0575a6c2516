using NUnit.Framework;
using CpuSparseSparse = SieveAttention.Cpu.SparseSparse;

namespace SieveAttention.Tests.Cpu;

/// <summary>One head of 65,536 tokens: a matrix of its weights would take 17 GB; everything allocated must stay within 250 MB.</summary>
[NonParallelizable]
internal sealed class SparseSparseMemoryTests
{
    [Test]
    public void The_sparse_stream_needs_no_matrix_of_weights()
    {
        const int Tokens = 65536;
        AttentionProblem problem = new(1, 1, 1, Tokens, Tokens, 16, 16, Causal: true, QueryOffset: 0, Window: 0);
        SparseSparseParameters parameters = new SparseSparseOptions { BlockSize = 64, BlockCount = 8 }.ToParameters(problem);
        SparseSparseArrays<float> inputs = new(
            Random(problem.QueryShape, 1), Random(problem.KeyShape, 2), Random(problem.ValueShape, 3), null, null, null);
        HostArray<float> gradient = Random(problem.OutputShape, 4);
        long before = GC.GetTotalAllocatedBytes(precise: true);
        SparseSparseForward<float> forward = CpuSparseSparse.Forward(problem, parameters, inputs, sparse: true, full: false);
        RowGradients<float> gradients = CpuSparseSparse.Backward(problem, parameters, inputs, forward, gradient, null);
        Assert.That(GC.GetTotalAllocatedBytes(precise: true) - before, Is.LessThan(250_000_000));
        Assert.That(forward.Blocks!.Used(0, 0, Tokens - 1).Length, Is.EqualTo(8));
        Assert.That(gradients.Key.Data.Any(value => value != 0), Is.True);
    }

    private static HostArray<float> Random(TensorShape shape, int seed)
    {
        Random random = new(seed);
        HostArray<float> array = new(shape);
        for (int i = 0; i < array.Data.Length; i++)
        {
            array.Data[i] = random.NextSingle() - 0.5f;
        }

        return array;
    }
}
