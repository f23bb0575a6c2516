using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Tests.Cpu;

internal sealed class WorkersTests
{
    [Test]
    public void Every_task_runs_once([Values(1, 2, 7)] int threads)
    {
        int[] runs = new int[1000];
        Workers.Run(new CpuExecution { Threads = threads }, runs.Length, task => Interlocked.Increment(ref runs[task]));
        Assert.That(runs, Has.All.EqualTo(1));
    }

    [Test]
    public void The_failure_of_a_task_is_thrown_as_it_is([Values(1, 3)] int threads)
    {
        void Run() => Workers.Run(new CpuExecution { Threads = threads }, 100, task =>
        {
            if (task == 50)
            {
                throw new InvalidOperationException("task 50");
            }
        });
        Assert.That(Run, Throws.InvalidOperationException.With.Message.EqualTo("task 50"));
    }

    [Test]
    public unsafe void Scratch_memory_is_aligned_disjoint_and_as_large_as_asked_for()
    {
        using FloatArena arena = new(1000);
        List<(nint Start, nint End)> taken = [];
        foreach (int count in new[] { 1, 16, 17, 900, 5000, 3, 100_000 })
        {
            float* memory = arena.Take(count);
            Assert.That((long)memory % 64, Is.Zero);
            new Span<float>(memory, count).Fill(count);
            taken.Add(((nint)memory, (nint)(memory + count)));
        }

        foreach ((nint start, nint end) in taken)
        {
            Assert.That(taken.Count(other => start < other.End && other.Start < end), Is.EqualTo(1), "ranges overlap only with themselves");
        }
    }

    [Test]
    public void Progress_rises_to_one([Values(1, 3)] int threads)
    {
        List<double> shares = [];
        Workers.Run(new CpuExecution { Threads = threads, Progress = shares.Add }, 40, _ => { });
        Assert.That(shares, Is.Ordered.Ascending);
        Assert.That(shares, Has.Count.EqualTo(40));
        Assert.That(shares[^1], Is.EqualTo(1));
    }

    [Test]
    public void Cancellation_stops_between_tasks([Values(1, 3)] int threads)
    {
        using CancellationTokenSource source = new();
        int runs = 0;
        void Run() => Workers.Run(new CpuExecution { Threads = threads, Cancellation = source.Token }, 1_000_000, _ =>
        {
            if (Interlocked.Increment(ref runs) == 10)
            {
                source.Cancel();
            }
        });
        Assert.That(Run, Throws.InstanceOf<OperationCanceledException>());
        Assert.That(runs, Is.LessThan(1_000_000));
    }
}
