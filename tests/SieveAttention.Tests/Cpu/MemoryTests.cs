using NUnit.Framework;
using SieveAttention.Cpu.Rows;
using SieveAttention.Cpu.Schedule;
using CpuRowAttention = SieveAttention.Cpu.RowAttention;
using CpuSoftmax = SieveAttention.Cpu.Softmax;
using CpuThresholdDifferential = SieveAttention.Cpu.ThresholdDifferential;

namespace SieveAttention.Tests.Cpu;

/// <summary>One head of 65,536 tokens: a matrix of its weights would take 17 GB; everything allocated must stay within 250 MB.</summary>
[NonParallelizable]
internal sealed class MemoryTests
{
    private const int Tokens = 65536;
    private const long Limit = 250_000_000;

    private static readonly AttentionProblem s_problem = new(1, 1, 1, Tokens, Tokens, 16, 16, Causal: true, QueryOffset: 0, Window: 0);

    [Test]
    public void Threshold_differential_attention_needs_no_matrix_of_weights()
    {
        ThresholdDifferentialParameters parameters = new([1], 1, [0], 2, EpilogueParameters.None);
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = (Random(1), Random(2), Random(3));
        ThresholdDifferentialForward<float>? result = null;
        long allocated = Allocated(() => result = CpuThresholdDifferential.Forward(s_problem, parameters, q, k, null, null, v, null, null));
        Assert.That(allocated, Is.LessThan(Limit));
        Assert.That(result!.Survivors1.Sum(), Is.GreaterThan(0));
        allocated = Allocated(() => CpuThresholdDifferential.Backward(s_problem, parameters, q, k, null, null, v, null, null, Random(4)));
        Assert.That(allocated, Is.LessThan(Limit));
    }

    [Test]
    public void Softmax_needs_no_matrix_of_weights()
    {
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = (Random(1), Random(2), Random(3));
        // The last rows only: all of them would take seconds and no other memory.
        AttentionProblem problem = s_problem with { Queries = 4096, QueryOffset = Tokens - 4096 };
        long allocated = Allocated(() => CpuSoftmax.Forward(problem, new ScoreTerms<float>(0.25f), q, k, v));
        Assert.That(allocated, Is.LessThan(Limit));
    }

    [Test]
    public void Row_functions_and_gradients_need_strips_that_grow_with_the_length_only([Values(false, true)] bool softmax)
    {
        // The last 256 queries: each thread's strips are as long as for all of them.
        AttentionProblem problem = s_problem with { Queries = 256, QueryOffset = Tokens - 256 };
        (HostArray<float> k, HostArray<float> v) = (Random(2), Random(3));
        HostArray<float> q = new(problem.QueryShape);
        k.Data.AsSpan(0, q.Data.Length).CopyTo(q.Data);
        CpuExecution execution = new() { Threads = 2 };
        ScoreTerms<float> terms = new(0.25f);
        long allocated = Allocated(() =>
        {
            if (softmax)
            {
                CpuSoftmax.ForwardResult result = CpuSoftmax.Forward(problem, terms, q, k, v, execution);
                CpuSoftmax.Backward(problem, terms, q, k, v, result.Output, result.LogSumExp, q, execution);
            }
            else
            {
                EntmaxRow row = new(problem, [1.5]);
                CpuRowAttention.Forward(problem, terms, row, q, k, v, execution);
                CpuRowAttention.Backward(problem, terms, row, q, k, v, q, execution);
            }
        });
        Assert.That(allocated, Is.LessThan(2 * Limit));
    }

    /// <summary>Bytes allocated by an action, freed or not; threads that do something else at the same time count too.</summary>
    private static long Allocated(Action action)
    {
        long before = GC.GetTotalAllocatedBytes(precise: true);
        action();
        return GC.GetTotalAllocatedBytes(precise: true) - before;
    }

    private static HostArray<float> Random(int seed)
    {
        Random random = new(seed);
        HostArray<float> array = new(s_problem.QueryShape);
        for (int i = 0; i < array.Data.Length; i++)
        {
            array.Data[i] = random.NextSingle() - 0.5f;
        }

        return array;
    }
}
