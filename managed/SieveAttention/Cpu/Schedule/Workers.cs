using System.Runtime.ExceptionServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Schedule;

/// <summary>Runs independent tasks on all cores: each thread takes the next task when it is free.</summary>
internal static class Workers
{
    /// <summary>
    /// Runs tasks 0 to <paramref name="count"/> - 1. Each thread makes one scratch object, in an arena that lasts as long as the thread
    /// takes tasks. Which thread runs a task is not fixed, so a task must not depend on what its scratch held before.
    /// </summary>
    /// <exception cref="OperationCanceledException">Cancelled; tasks not yet begun did not run.</exception>
    internal static void Run<TScratch>(
        CpuExecution execution, long count, Func<FloatArena, TScratch> makeScratch, Action<long, TScratch> task)
    {
        execution.Cancellation.ThrowIfCancellationRequested();
        Queue<TScratch> queue = new(execution, count, makeScratch, task);
        int threads = (int)Math.Clamp(count, 1, Math.Max(1, execution.Threads));
        if (threads == 1)
        {
            queue.Drain();
        }
        else
        {
            try
            {
                Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, _ => queue.Drain());
            }
            catch (AggregateException failures)
            {
                ExceptionDispatchInfo.Throw(failures.InnerExceptions[0]);
            }
        }

        execution.Cancellation.ThrowIfCancellationRequested();
    }

    /// <summary>Runs tasks that need no scratch.</summary>
    internal static void Run(CpuExecution execution, long count, Action<long> task) =>
        Run(execution, count, static _ => 0, (index, _) => task(index));

    private sealed class Queue<TScratch>(
        CpuExecution execution, long count, Func<FloatArena, TScratch> makeScratch, Action<long, TScratch> task)
    {
        private readonly Lock _reporting = new();
        private long _next = -1;
        private long _done;
        private volatile bool _failed;

        internal void Drain()
        {
            try
            {
                using FloatArena arena = new(FloatArena.Small);
                TScratch scratch = makeScratch(arena);
                long index;
                while (!_failed && !execution.Cancellation.IsCancellationRequested && (index = Interlocked.Increment(ref _next)) < count)
                {
                    task(index, scratch);
                    Report();
                }
            }
            catch
            {
                _failed = true;
                throw;
            }
        }

        private void Report()
        {
            if (execution.Progress is { } progress)
            {
                lock (_reporting)
                {
                    progress(++_done / (double)count);
                }
            }
        }
    }
}
