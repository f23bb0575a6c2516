using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Tests.Support;
using CpuOperator = SieveAttention.Cpu.Softmax;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Softmax in float32 against plain double loops. Scores of a few units with errors of a few 2^-24 make relative weight errors below 1e-6;
/// out is compared to 1e-5 of its largest element and the logarithm of the sum to 1e-5.
/// </summary>
internal sealed class SoftmaxTests
{
    private static IEnumerable<AttentionProblem> Problems()
    {
        foreach (int length in new[] { 1, 2, 17, 63, 64, 65, 129, 200 })
        {
            yield return new(1, 2, 2, length, length, 16, 16, Causal: true, QueryOffset: 0, Window: 0);
        }

        yield return new(2, 6, 2, 70, 130, 5, 48, Causal: true, QueryOffset: 60, Window: 0);
        yield return new(1, 1, 1, 130, 70, 80, 3, Causal: false, QueryOffset: 0, Window: 0);
        yield return new(1, 1, 1, 100, 90, 16, 16, Causal: true, QueryOffset: -30, Window: 7);
        yield return new(1, 1, 1, 200, 200, 16, 16, Causal: true, QueryOffset: 0, Window: 100);
        yield return new(1, 1, 1, 20, 20, 16, 16, Causal: true, QueryOffset: -50, Window: 0);
    }

    [TestCaseSource(nameof(Problems))]
    public void Forward_matches_the_definition(AttentionProblem problem)
    {
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = Inputs(problem);
        (double[] output, double[] lse) = Definition(problem, 0.7f, q, k, v);
        CpuOperator.ForwardResult one = Run(problem, q, k, v, new CpuExecution { Threads = 1 });
        Assert.That(one.LogSumExp, Is.EqualTo(lse).Within(1e-5));
        AssertOutput(one, output, 1e-5);
        float[] threaded = Run(problem, q, k, v, new CpuExecution { Threads = 3 }).Output.Data;
        Assert.That(threaded, Is.EqualTo(one.Output.Data), "any number of threads");
        foreach (int width in new[] { 8, 4 })
        {
            AssertOutput(Run(problem, q, k, v, new CpuExecution { VectorWidth = width }), output, 1e-5);
        }
    }

    [Test]
    public void Scores_far_apart_neither_overflow_nor_vanish()
    {
        AttentionProblem problem = new(1, 1, 1, 150, 150, 8, 8, Causal: true, QueryOffset: 0, Window: 0);
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = Inputs(problem);
        for (int i = 0; i < q.Data.Length; i++)
        {
            q.Data[i] *= 100;
        }

        (double[] output, double[] lse) = Definition(problem, 0.7f, q, k, v);
        CpuOperator.ForwardResult result = Run(problem, q, k, v, CpuExecution.Default);
        // Scores reach 1000 and carry a relative error of a few 2^-24, so weights an error of 1e-4.
        AssertOutput(result, output, 3e-4);
        Assert.That(result.LogSumExp, Is.EqualTo(lse).Within(3e-4));
    }

    [Test]
    public void A_poisoned_value_reaches_only_the_rows_that_see_it([Values(float.NaN, float.PositiveInfinity)] float poison)
    {
        AttentionProblem problem = new(1, 1, 1, 150, 150, 8, 8, Causal: true, QueryOffset: 0, Window: 40);
        (HostArray<float> q, HostArray<float> k, HostArray<float> v) = Inputs(problem);
        float[] clean = Run(problem, q, k, v, CpuExecution.Default).Output.Data;
        v.Row(0, 0, 70)[2] = poison;
        HostArray<float> output = Run(problem, q, k, v, CpuExecution.Default).Output;
        for (int row = 0; row < 150; row++)
        {
            KeyRange visible = problem.Visible(row);
            bool sees = visible.First <= 70 && 70 < visible.End;
            Assert.That(float.IsFinite(output.Row(0, 0, row)[2]), Is.EqualTo(!sees), $"row {row}");
            Assert.That(sees || output.Row(0, 0, row).SequenceEqual(clean.AsSpan(row * 8, 8)), $"row {row} changed");
        }
    }

    private static void AssertOutput(CpuOperator.ForwardResult actual, double[] expected, double tolerance)
    {
        Deviation deviation = Deviation.Of(Array.ConvertAll(actual.Output.Data, value => (double)value), expected);
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), deviation.ToString());
    }

    private static CpuOperator.ForwardResult Run(
        in AttentionProblem problem, HostArray<float> q, HostArray<float> k, HostArray<float> v, CpuExecution execution) =>
        CpuOperator.Forward(problem, new ScoreTerms<float>(0.7f), q, k, v, execution);

    private static (HostArray<float> Query, HostArray<float> Key, HostArray<float> Value) Inputs(in AttentionProblem problem)
    {
        Random random = new(11);
        return (Next(problem.QueryShape), Next(problem.KeyShape), Next(problem.ValueShape));

        HostArray<float> Next(TensorShape shape)
        {
            HostArray<float> array = new(shape);
            Array.ConvertAll(Values.Normal(random, shape.Count), value => (float)value).CopyTo(array.Data, 0);
            return array;
        }
    }

    private static (double[] Output, double[] Lse) Definition(
        in AttentionProblem problem, double scale, HostArray<float> q, HostArray<float> k, HostArray<float> v)
    {
        HostArray<double> output = new(problem.OutputShape);
        double[] lse = new double[problem.RowShape.Count];
        int index = 0;
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                int kv = problem.KeyHead(h);
                for (int i = 0; i < problem.Queries; i++, index++)
                {
                    KeyRange visible = problem.Visible(i);
                    double[] scores = new double[problem.Keys];
                    double largest = double.NegativeInfinity;
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        for (int c = 0; c < problem.HeadDim; c++)
                        {
                            scores[j] += scale * q.Row(b, h, i)[c] * k.Row(b, kv, j)[c];
                        }

                        largest = Math.Max(largest, scores[j]);
                    }

                    double total = 0;
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        total += Math.Exp(scores[j] - largest);
                    }

                    lse[index] = visible.Count == 0 ? double.NegativeInfinity : largest + Math.Log(total);
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        for (int c = 0; c < problem.ValueDim; c++)
                        {
                            output.Row(b, h, i)[c] += Math.Exp(scores[j] - lse[index]) * v.Row(b, kv, j)[c];
                        }
                    }
                }
            }
        }

        return (output.Data, lse);
    }
}
