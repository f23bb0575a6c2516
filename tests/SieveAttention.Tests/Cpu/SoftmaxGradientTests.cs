using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using CpuOperator = SieveAttention.Cpu.Softmax;
using ReferenceOperator = SieveAttention.Reference.Softmax;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Row factors, slopes and the backward pass of softmax in float32 against the reference. Scores of a few units with errors of a few 2^-24
/// make relative weight errors of 1e-6; sums of a few hundred of them stay within 1e-5 of the largest element.
/// </summary>
internal sealed class SoftmaxGradientTests
{
    [TestCaseSource(typeof(RowCase), nameof(RowCase.Problems))]
    public void Forward_applies_row_factors_and_slopes(AttentionProblem problem)
    {
        RowCase c = new(problem, rowFactor: true, alibi: true);
        ReferenceOperator.ForwardResult expected = ReferenceOperator.Forward(
            problem, c.ReferenceTerms, RowCase.Wide(c.Query), RowCase.Wide(c.Key), RowCase.Wide(c.Value));
        CpuOperator.ForwardResult actual = CpuOperator.Forward(problem, c.Terms, c.Query, c.Key, c.Value);
        RowCase.AssertClose("out", actual.Output.Data, expected.Output.Data, 1e-5);
        Assert.That(actual.LogSumExp, Is.EqualTo(expected.LogSumExp).Within(2e-5));
    }

    [Test]
    public void Backward_matches_the_reference(
        [ValueSource(typeof(RowCase), nameof(RowCase.Problems))] AttentionProblem problem, [Values] bool terms)
    {
        RowCase c = new(problem, rowFactor: terms, alibi: terms);
        RowGradients<double> expected = ReferenceOperator.Backward(
            problem, c.ReferenceTerms, RowCase.Wide(c.Query), RowCase.Wide(c.Key), RowCase.Wide(c.Value), RowCase.Wide(c.OutputGradient));
        foreach (CpuExecution execution in new CpuExecution[]
        {
            new() { Threads = 1 }, new() { Threads = 3 }, new() { VectorWidth = 8 }, new() { VectorWidth = 4 },
        })
        {
            RowGradients<float> actual = Backward(c, execution);
            RowCase.AssertClose("dq", actual.Query.Data, expected.Query.Data, 1e-5);
            RowCase.AssertClose("dk", actual.Key.Data, expected.Key.Data, 1e-5);
            RowCase.AssertClose("dv", actual.Value.Data, expected.Value.Data, 1e-5);
            Assert.That(actual.RowFactor is null, Is.EqualTo(!terms));
            if (terms)
            {
                RowCase.AssertClose("dg", actual.RowFactor!.Data, expected.RowFactor!.Data, 1e-5);
            }
        }
    }

    [Test]
    public void Gradients_repeat_to_the_bit_and_those_of_queries_for_any_number_of_threads()
    {
        RowCase c = new(new(1, 4, 2, 200, 200, 16, 16, Causal: true, QueryOffset: 0, Window: 0), rowFactor: true);
        RowGradients<float> first = Backward(c, new CpuExecution { Threads = 3 });
        RowGradients<float> again = Backward(c, new CpuExecution { Threads = 3 });
        RowGradients<float> one = Backward(c, new CpuExecution { Threads = 1 });
        Assert.That(again.Key.Data, Is.EqualTo(first.Key.Data));
        Assert.That(again.Value.Data, Is.EqualTo(first.Value.Data));
        Assert.That(one.Query.Data, Is.EqualTo(first.Query.Data));
        Assert.That(one.RowFactor!.Data, Is.EqualTo(first.RowFactor!.Data));
    }

    [Test]
    public void A_poisoned_input_reaches_only_gradients_of_what_it_meets([Values(float.NaN, float.PositiveInfinity)] float poison)
    {
        RowCase c = new(new(1, 1, 1, 150, 150, 8, 8, Causal: true, QueryOffset: 0, Window: 40));
        RowGradients<float> clean = Backward(c, CpuExecution.Default);
        c.Value.Row(0, 0, 70)[2] = poison;
        c.Key.Row(0, 0, 20)[1] = poison;
        RowGradients<float> actual = Backward(c, CpuExecution.Default);
        for (int row = 0; row < 150; row++)
        {
            KeyRange visible = c.Problem.Visible(row);
            bool sees = visible.First <= 70 && 70 < visible.End || visible.First <= 20 && 20 < visible.End;
            Assert.That(actual.Query.Row(0, 0, row).SequenceEqual(clean.Query.Row(0, 0, row)), Is.EqualTo(!sees), $"query {row}");
        }

        // Keys and values that share no row with key 20 or 70: each row sees 40 keys.
        for (int key = 0; key < 150; key++)
        {
            bool meets = Math.Abs(key - 20) < 40 || Math.Abs(key - 70) < 40;
            Assert.That(
                actual.Key.Row(0, 0, key).SequenceEqual(clean.Key.Row(0, 0, key)) &&
                actual.Value.Row(0, 0, key).SequenceEqual(clean.Value.Row(0, 0, key)), Is.EqualTo(!meets), $"key {key}");
        }
    }

    private static RowGradients<float> Backward(RowCase c, CpuExecution execution)
    {
        CpuOperator.ForwardResult forward = CpuOperator.Forward(c.Problem, c.Terms, c.Query, c.Key, c.Value, execution);
        return CpuOperator.Backward(
            c.Problem, c.Terms, c.Query, c.Key, c.Value, forward.Output, forward.LogSumExp, c.OutputGradient, execution);
    }
}
