using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using CpuAttention = SieveAttention.Cpu.RowAttention;
using ReferenceAttention = SieveAttention.Reference.RowAttention;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Every row function in float32 against the reference. Scores of a few units carry errors of a few 2^-24; powers and differences of
/// weights enlarge them to less than 2e-5 of the largest element forward and 1e-4 backward.
/// </summary>
internal sealed class RowAttentionTests
{
    private static readonly CpuExecution[] s_executions =
    [
        new() { Threads = 1 }, new() { Threads = 3 }, new() { VectorWidth = 8 }, new() { VectorWidth = 4 },
    ];

    [Test]
    public void Forward_and_backward_match_the_reference(
        [ValueSource(typeof(RowFunctionPair), nameof(RowFunctionPair.Names))] string name,
        [ValueSource(typeof(RowCase), nameof(RowCase.Problems))] AttentionProblem problem)
    {
        RowCase c = Case(name, problem);
        RowFunctionPair pair = RowFunctionPair.Make(name, c);
        HostArray<double> q = RowCase.Wide(c.Query);
        HostArray<double> k = RowCase.Wide(c.Key);
        HostArray<double> v = RowCase.Wide(c.Value);
        HostArray<double> expected = ReferenceAttention.Forward(problem, c.ReferenceTerms, pair.Reference, q, k, v);
        RowGradients<double> gradients = ReferenceAttention.Backward(
            problem, c.ReferenceTerms, pair.Reference, q, k, v, RowCase.Wide(c.OutputGradient));
        double[] parameters = pair.Gradients().Reference;
        foreach (CpuExecution execution in s_executions)
        {
            HostArray<float> output = CpuAttention.Forward(problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, execution);
            RowCase.AssertClose("out", output.Data, expected.Data, 2e-5);
            (double[] actualRows, double[] expectedRows) = pair.Outputs();
            Assert.That(actualRows, Is.EqualTo(expectedRows).Within(1e-5));
            RowGradients<float> actual = CpuAttention.Backward(
                problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, c.OutputGradient, execution);
            RowCase.AssertClose("dq", actual.Query.Data, gradients.Query.Data, 1e-4);
            RowCase.AssertClose("dk", actual.Key.Data, gradients.Key.Data, 1e-4);
            RowCase.AssertClose("dv", actual.Value.Data, gradients.Value.Data, 2e-5);
            RowCase.AssertClose("dg", actual.RowFactor?.Data ?? [], gradients.RowFactor?.Data ?? [], 1e-4);
            RowCase.AssertClose("parameters", Array.ConvertAll(pair.Gradients().Cpu, x => (float)x), parameters, 1e-4);
        }
    }

    [Test]
    public void Results_repeat_to_the_bit_and_outputs_for_any_number_of_threads(
        [Values("entmax 1.5", "softpick", "affine", "elastic bias")] string name)
    {
        AttentionProblem problem = new(1, 4, 2, 200, 200, 16, 16, Causal: true, QueryOffset: 0, Window: 0);
        RowCase c = Case(name, problem);
        List<(HostArray<float> Output, RowGradients<float> Gradients, double[] Parameters)> runs = [];
        for (int run = 0; run < 3; run++)
        {
            RowFunctionPair pair = RowFunctionPair.Make(name, c);
            CpuExecution execution = new() { Threads = run == 2 ? 1 : 3 };
            HostArray<float> output = CpuAttention.Forward(problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, execution);
            RowGradients<float> gradients = CpuAttention.Backward(
                problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, c.OutputGradient, execution);
            runs.Add((output, gradients, pair.Gradients().Cpu));
        }

        Assert.That(runs[1].Gradients.Key.Data, Is.EqualTo(runs[0].Gradients.Key.Data));
        Assert.That(runs[1].Gradients.Value.Data, Is.EqualTo(runs[0].Gradients.Value.Data));
        foreach (int run in new[] { 1, 2 })
        {
            Assert.That(runs[run].Output.Data, Is.EqualTo(runs[0].Output.Data));
            Assert.That(runs[run].Gradients.Query.Data, Is.EqualTo(runs[0].Gradients.Query.Data));
            Assert.That(runs[run].Parameters, Is.EqualTo(runs[0].Parameters));
        }
    }

    [Test]
    public void A_poisoned_input_reaches_only_the_rows_that_see_it(
        [ValueSource(typeof(RowFunctionPair), nameof(RowFunctionPair.Names))] string name,
        [Values(float.NaN, float.PositiveInfinity)] float poison)
    {
        AttentionProblem problem = new(1, 1, 1, 150, 150, 8, 8, Causal: true, QueryOffset: 0, Window: 40);
        RowCase c = Case(name, problem);
        RowFunctionPair pair = RowFunctionPair.Make(name, c);
        float[] clean = CpuAttention.Forward(problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value).Data;
        RowGradients<float> cleanGradients = CpuAttention.Backward(
            problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, c.OutputGradient);
        c.Value.Row(0, 0, 70)[2] = poison;
        c.Key.Row(0, 0, 20)[1] = float.NaN;
        HostArray<float> output = CpuAttention.Forward(problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value);
        RowGradients<float> gradients = CpuAttention.Backward(
            problem, c.Terms, pair.Cpu, c.Query, c.Key, c.Value, c.OutputGradient);
        for (int row = 0; row < 150; row++)
        {
            KeyRange visible = problem.Visible(row);
            bool sees = (visible.First <= 70 && 70 < visible.End) || (visible.First <= 20 && 20 < visible.End);
            if (!sees)
            {
                Assert.That(output.Row(0, 0, row).SequenceEqual(clean.AsSpan(row * 8, 8)), $"row {row}");
                Assert.That(gradients.Query.Row(0, 0, row).SequenceEqual(cleanGradients.Query.Row(0, 0, row)), $"dq {row}");
            }

            if (Math.Abs(row - 20) >= 40 && Math.Abs(row - 70) >= 40)
            {
                Assert.That(gradients.Key.Row(0, 0, row).SequenceEqual(cleanGradients.Key.Row(0, 0, row)), $"dk {row}");
                Assert.That(gradients.Value.Row(0, 0, row).SequenceEqual(cleanGradients.Value.Row(0, 0, row)), $"dv {row}");
            }
        }

        // A row that sees the key whose scores are NaN shows it.
        Assert.That(output.Row(0, 0, 20).ToArray(), Has.All.NaN);
    }

    [Test]
    public void A_row_whose_weights_do_not_sum_to_a_positive_number_is_an_error()
    {
        AttentionProblem problem = new(1, 1, 1, 3, 3, 4, 4, Causal: true, QueryOffset: 0, Window: 0);
        RowCase c = new(problem, scale: 1);
        c.Query.Data.AsSpan().Fill(1);
        c.Key.Data.AsSpan().Fill(-1);
        SieveAttention.Reference.SupportBasisTiles tiles = new(
            problem, c.ReferenceTerms, RowCase.Wide(c.Query), RowCase.Wide(c.Key), bound: 100, tile: 64);
        ArgumentException? error = Assert.Throws<ArgumentException>(() => CpuAttention.Forward(
            problem, c.Terms, new SieveAttention.Cpu.Rows.SupportBasisRow(problem, tiles, 64, 1), c.Query, c.Key, c.Value));
        Assert.That(error!.Message, Does.Contain("query row").And.Contain("sum to").And.Contain("positive sum"));
    }

    /// <summary>Polynomial weights of degree 1 are positive for small scores only, and take no row factor that enlarges them.</summary>
    private static RowCase Case(string name, AttentionProblem problem)
    {
        double scale = 1 / Math.Sqrt(problem.HeadDim);
        return name == "support basis 1"
            ? new RowCase(problem, 0.1 * scale)
            : new RowCase(problem, scale, rowFactor: true, alibi: !name.StartsWith("support", StringComparison.Ordinal));
    }
}
