using NUnit.Framework;
using SieveAttention.Cpu.Schedule;

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
    public void Every_scratch_is_disposed_also_when_a_task_fails([Values(1, 3)] int threads)
    {
        int living = 0;
        void Run() => Workers.Run(
            new CpuExecution { Threads = threads },
            100,
            () => new Scratch(() => Interlocked.Increment(ref living), () => Interlocked.Decrement(ref living)),
            (task, _) =>
            {
                if (task == 50)
                {
                    throw new InvalidOperationException("task 50");
                }
            });
        Assert.That(Run, Throws.InvalidOperationException.With.Message.EqualTo("task 50"));
        Assert.That(living, Is.Zero);
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

    private sealed class Scratch : IDisposable
    {
        private readonly Action _dispose;

        internal Scratch(Action create, Action dispose)
        {
            create();
            _dispose = dispose;
        }

        public void Dispose() => _dispose();
    }
}
