using System.Diagnostics;
using System.Runtime.Intrinsics;
using NUnit.Framework;
using SieveAttention.Cli.Benchmarks;
using SieveAttention.Cpu.Rows;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Cpu.Tiles;
using SieveAttention.Tests.Support;
using CpuRowAttention = SieveAttention.Cpu.RowAttention;
using CpuSoftmax = SieveAttention.Cpu.Softmax;
using CpuThresholdDifferential = SieveAttention.Cpu.ThresholdDifferential;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Measures the rates that the documentation of the Cpu device states, on an otherwise idle machine:
/// <c>SieveAttention.Tests --filter "Category=Speed"</c>. Every number is the best of several runs.
/// </summary>
[Explicit("measures; needs an idle machine")]
[Category("Speed")]
[NonParallelizable]
internal sealed class SpeedTests
{
    [Test]
    public void Tile_products_reach_sixty_percent_of_a_register_only_loop([Values(1, 0)] int threads, [Values(16, 8)] int width)
    {
        Assume.That(width, Is.LessThanOrEqualTo(LaneChoice.Widest));
        threads = threads == 0 ? Environment.ProcessorCount : threads;
        double loop = RegisterLoop(threads, width);
        foreach (TileProducts.Kind kind in Enum.GetValues<TileProducts.Kind>())
        {
            const int Repeats = 2000;
            double time = Best(12, () => OnThreads(threads, () => LaneChoice.Run(new TileProducts(kind, Repeats), width)));
            double rate = threads * Repeats * 2.0 * 64 * 64 * 64 / time;
            Report($"{threads} threads, {width} floats, {kind}: {rate / 1e9:F1} GFLOP/s, {rate / loop:P0} of {loop / 1e9:F1}");
            Assert.That(rate / loop, Is.GreaterThan(0.6));
        }
    }

    [Test]
    public void Dense_softmax_reaches_forty_percent_of_a_register_only_loop([Values] bool causal)
    {
        AttentionProblem problem = new(1, 8, 8, 2048, 2048, 64, 64, causal, QueryOffset: 0, Window: 0);
        HostArray<float> q = Random(problem.QueryShape, 1);
        HostArray<float> k = Random(problem.KeyShape, 2);
        HostArray<float> v = Random(problem.ValueShape, 3);
        double loop = RegisterLoop(Environment.ProcessorCount);
        double time = Best(12, () => CpuSoftmax.Forward(problem, new ScoreTerms<float>(0.125f), q, k, v));
        double rate = 4.0 * 2048 * (causal ? 2049 / 2.0 : 2048) * 64 * 8 / time;
        Report($"B1 H8 N2048 D64 causal {causal}: {time * 1e3:F1} ms, {rate / 1e9:F1} GFLOP/s, {rate / loop:P0} of {loop / 1e9:F1}");
        Assert.That(rate / loop, Is.GreaterThan(0.4));
    }

    [Test]
    public void Dense_softmax_gradients_reach_forty_percent_of_a_register_only_loop([Values] bool causal)
    {
        AttentionProblem problem = new(1, 8, 8, 2048, 2048, 64, 64, causal, QueryOffset: 0, Window: 0);
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = Inputs(problem);
        ScoreTerms<float> terms = new(0.125f);
        CpuSoftmax.ForwardResult forward = CpuSoftmax.Forward(problem, terms, q, k, v);
        double loop = RegisterLoop(Environment.ProcessorCount);
        double time = Best(6, () => CpuSoftmax.Backward(problem, terms, q, k, v, forward.Output, forward.LogSumExp, q));
        double rate = 10.0 * 2048 * (causal ? 2049 / 2.0 : 2048) * 64 * 8 / time;
        Report($"gradients causal {causal}: {time * 1e3:F1} ms, {rate / 1e9:F1} GFLOP/s, {rate / loop:P0} of {loop / 1e9:F1}");
        Assert.That(rate / loop, Is.GreaterThan(0.4));
    }

    /// <summary>Scale 1 / sqrt(head_dim) leaves wide supports on random inputs; four times as much, those of a trained layer.</summary>
    [Test]
    public void Row_functions_beside_dense_softmax([Values(0.125f, 0.5f)] float scale)
    {
        AttentionProblem problem = new(1, 8, 8, 2048, 2048, 64, 64, Causal: true, QueryOffset: 0, Window: 0);
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = Inputs(problem);
        ScoreTerms<float> terms = new(scale);
        double softmax = Best(6, () => CpuSoftmax.Forward(problem, terms, q, k, v));
        CpuSoftmax.ForwardResult result = CpuSoftmax.Forward(problem, terms, q, k, v);
        double gradients = Best(4, () => CpuSoftmax.Backward(problem, terms, q, k, v, result.Output, result.LogSumExp, q));
        double[] tau = [.. Enumerable.Repeat(-1.0, 8)];
        foreach ((string name, RowFunction function) in new (string, RowFunction)[]
        {
            ("entmax 1.5", new EntmaxRow(problem, [.. Enumerable.Repeat(1.5, 8)])),
            ("entmax 1.75", new EntmaxRow(problem, [.. Enumerable.Repeat(1.75, 8)])),
            ("entmax 2", new EntmaxRow(problem, [.. Enumerable.Repeat(2.0, 8)])),
            ("softpick", new SoftpickRow(1e-6)),
            ("sigmoid", new SigmoidRow(problem, null)),
            ("elastic", new ElasticSoftmaxRow(problem, tau)),
        })
        {
            double forward = Best(6, () => CpuRowAttention.Forward(problem, terms, function, q, k, v));
            double backward = Best(4, () => CpuRowAttention.Backward(problem, terms, function, q, k, v, q));
            Report($"scale {scale}, {name}: forward {forward * 1e3:F1} ms, {forward / softmax:F2} x that of softmax");
            Report($"scale {scale}, {name}: backward {backward * 1e3:F1} ms, {backward / gradients:F2} x that of softmax");
        }
    }

    /// <summary>
    /// A trained layer has six heads; the file of this source tree holds the one with the most survivors, alone and six times here.
    /// SIEVE_TRAINED_LAYER=FILE, without .safetensors, names a file with all heads.
    /// </summary>
    [TestCase(1)]
    [TestCase(6)]
    public void Threshold_attention_on_trained_input_is_half_as_fast_again_as_dense_softmax(int copies)
    {
        string? layer = Environment.GetEnvironmentVariable("SIEVE_TRAINED_LAYER");
        GoldenCase real = GoldenCase.Load("real", layer ?? "threshold-differential");
        ThresholdDifferentialInputs inputs = real.Inputs;
        copies = layer is null ? copies : 1;
        HostArray<float> q1 = Heads(inputs.Query1, copies);
        HostArray<float> k1 = Heads(inputs.Key1, copies);
        HostArray<float> q2 = Heads(inputs.Query2!, copies);
        HostArray<float> k2 = Heads(inputs.Key2!, copies);
        HostArray<float> v = Heads(inputs.Value, copies);
        float[] gain = HostArray<float>.Read(inputs.NormGain!).Data;
        (TensorShape q, TensorShape kv) = (q1.Shape, v.Shape);
        AttentionProblem problem = new(
            q.Batch, q.Heads, kv.Heads, q.Rows, kv.Rows, q.Channels, kv.Channels, Causal: true, kv.Rows - q.Rows, Window: 0);
        ThresholdDifferentialParameters parameters = real.Options.ToParameters(q.Heads);
        HostArray<float> dout = Random(problem.OutputShape, 5);
        double softmax = Best(20, () => CpuSoftmax.Forward(problem, new ScoreTerms<float>(0.125f), q1, k1, v));
        double forward = Best(20, () => CpuThresholdDifferential.Forward(problem, parameters, q1, k1, q2, k2, v, gain, null));
        double unscreened = Best(20, () => CpuThresholdDifferential.Forward(
            problem, parameters, q1, k1, q2, k2, v, gain, null, CpuExecution.Default, ThresholdTuning.Default with { MaxCandidateRows = 0 }));
        double backward = Best(20, () => CpuThresholdDifferential.Backward(problem, parameters, q1, k1, q2, k2, v, gain, null, dout));
        Report($"{problem.QueryShape}: softmax {softmax * 1e3:F2} ms, forward {forward * 1e3:F2} ms ({softmax / forward:F2} x)");
        (double dense, double thresholded) = Processor(
            () => CpuSoftmax.Forward(problem, new ScoreTerms<float>(0.125f), q1, k1, v),
            () => CpuThresholdDifferential.Forward(problem, parameters, q1, k1, q2, k2, v, gain, null));
        Report($"  processor time: softmax {dense * 1e3:F2} ms, forward {thresholded * 1e3:F2} ms ({dense / thresholded:F2} x)");
        Report($"  forward without screening {unscreened * 1e3:F2} ms, backward {backward * 1e3:F2} ms");
        Assert.That(softmax / forward, Is.GreaterThan(1.5));
    }

    private static HostArray<float> Heads(AttentionTensor heads, int copies)
    {
        HostArray<float> one = HostArray<float>.Read(heads);
        HostArray<float> all = new(one.Shape with { Heads = copies * one.Shape.Heads });
        for (int copy = 0; copy < copies; copy++)
        {
            one.Data.CopyTo(all.Data, copy * one.Data.Length);
        }

        return all;
    }

    private static void Report(FormattableString text) => TestContext.Progress.WriteLine(FormattableString.Invariant(text));

    /// <summary>Best time of several runs in seconds, after enough others for tiered compilation to have finished.</summary>
    private static double Best(int runs, Action action)
    {
        for (long start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start).TotalSeconds < 0.5;)
        {
            action();
        }

        double best = double.PositiveInfinity;
        for (int run = 0; run < runs; run++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return best;
    }

    /// <summary>Least processor time of two actions over all threads, which other work on the machine disturbs less than a clock.</summary>
    private static (double First, double Second) Processor(Action first, Action second)
    {
        double[] best = [double.PositiveInfinity, double.PositiveInfinity];
        for (int run = 0; run < 60; run++)
        {
            TimeSpan before = Environment.CpuUsage.TotalTime;
            (run % 2 == 0 ? first : second)();
            best[run % 2] = Math.Min(best[run % 2], (Environment.CpuUsage.TotalTime - before).TotalSeconds);
        }

        return (best[0], best[1]);
    }

    private static void OnThreads(int threads, Action action) =>
        Parallel.For(0, threads, new ParallelOptions { MaxDegreeOfParallelism = threads }, _ => action());

    /// <summary>FLOP/s of independent fused multiply-adds that touch no memory.</summary>
    private static double RegisterLoop(int threads, int? width = null)
    {
        RegisterLoop loop = new(steps: 2_000_000);
        double time = Best(15, () => OnThreads(threads, () => LaneChoice.Run(loop, width)));
        return threads * loop.Operations(width ?? LaneChoice.Widest) / time;
    }

    private static (HostArray<float> Query, HostArray<float> Key, HostArray<float> Value) Inputs(in AttentionProblem problem) =>
        (Random(problem.QueryShape, 1), Random(problem.KeyShape, 2), Random(problem.ValueShape, 3));

    private static HostArray<float> Random(TensorShape shape, int seed)
    {
        HostArray<float> array = new(shape);
        Array.ConvertAll(Values.Normal(new Random(seed), shape.Count), value => (float)value).CopyTo(array.Data, 0);
        return array;
    }

    private sealed unsafe class TileProducts(TileProducts.Kind kind, int repeats) : ILaneWork
    {
        internal enum Kind
        {
            Scores,
            Values,
            Transposed,
        }

        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            const int Tiles = 16;
            using FloatArena arena = new(FloatArena.Large);
            PaddedRows queries = new(arena, 64, 64);
            PaddedRows keys = new(arena, 64 * Tiles, 64);
            PaddedRows results = new(arena, 64, 64);
            ColumnPanels columns = new(arena, 64 * Tiles, 64, MicroKernel<TLanes, TVector>.MaxColumns);
            queries.Clear(64);
            keys.Clear(64 * Tiles);
            results.Clear(64);
            for (int tile = 0; tile < Tiles; tile++)
            {
                columns.Fill(tile, keys.Row(64 * tile), 64, 64);
            }

            for (int i = 0; i < repeats; i++)
            {
                int tile = i % Tiles;
                (LeftFactor left, RightFactor right) = kind switch
                {
                    Kind.Scores => (queries.Left(0), columns.Tile(tile)),
                    Kind.Values => (queries.Left(0), keys.Right<TLanes, TVector>(64 * tile)),
                    _ => (queries.Left(0).Transposed, keys.Right<TLanes, TVector>(64 * tile)),
                };
                TileProduct<TLanes, TVector>.Multiply(left, right, 64, 64, 64, results.Row(0), 64, accumulate: kind != Kind.Scores);
            }
        }
    }
}
