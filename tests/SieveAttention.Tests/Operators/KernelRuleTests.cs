using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>
/// The rule by which kernels are judged, tried without a GPU: an accurate implementation passes on every case that kernels get,
/// and small mistakes do not.
/// </summary>
[Parallelizable(ParallelScope.All)]
internal sealed class KernelRuleTests
{
    private static readonly ThresholdCase s_case = new("rule")
    {
        Queries = 239,
        Keys = 239,
        HeadDim = 64,
        ValueDim = 64,
        Options = new ThresholdDifferentialOptions { Beta = 0.35, Lambda = 0.5 },
    };

    // The large ones would only take time here.
    private static IEnumerable<ThresholdCase> Cases =>
        ThresholdDifferentialKernelCases.All.Where(test => test.OutputShape.Count * test.Keys <= test.ValueDim * 2 * 240 * 240);

    [TestCaseSource(nameof(Cases))]
    public void Float32_arithmetic_with_a_rounded_output_passes(ThresholdCase test)
    {
        test = test with { HeadDim = 64, ValueDim = 64 };
        ThresholdDifferentialInputs inputs = test.Inputs(TensorType.BFloat16);
        using ThresholdDifferentialResult reference = test.Forward(AttentionDevice.Reference, inputs);
        using ThresholdDifferentialResult cpu = test.Forward(AttentionDevice.Cpu, inputs);
        double[] output = Array.ConvertAll(Values.Doubles(cpu.Output), value => Values.Round(value, TensorType.BFloat16));
        KernelTolerance.AssertWithin(
            output,
            PlainThresholdDifferential.Forward(test, inputs, TensorType.BFloat16),
            Values.Doubles(reference.Output),
            TensorType.BFloat16,
            test.Name);
        SurvivorTolerance.AssertWithin(
            test, inputs.Query1, inputs.Key1, cpu.Survivors1.AsSpan<int>().ToArray(), reference.Survivors1.AsSpan<int>().ToArray());
    }

    [Test]
    public void Plain_arithmetic_is_close_to_the_reference_and_not_equal([Values(TensorType.BFloat16, TensorType.Float16)] TensorType type)
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs(type);
        Deviation deviation = Deviation.Of(PlainThresholdDifferential.Forward(s_case, inputs, type), Reference(s_case, inputs));
        Assert.That(deviation.Relative, Is.InRange(1e-5, 1e-2));
    }

    [Test]
    public void A_threshold_one_percent_off_fails()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs(TensorType.BFloat16);
        ThresholdCase wrong = s_case with { Options = s_case.Options with { Beta = s_case.Options.Beta * 1.01 } };
        AssertFails(s_case, inputs, Reference(wrong, inputs));
    }

    [Test]
    public void A_key_too_many_fails()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs(TensorType.BFloat16);
        ThresholdCase wrong = s_case with { Options = s_case.Options with { Mask = new AttentionMask { QueryOffset = 1 } } };
        AssertFails(s_case, inputs, Reference(wrong, inputs));
    }

    [Test]
    public void Normalized_operands_rounded_to_bfloat16_fail()
    {
        // The tempting shortcut: normalize, round, multiply. It loses percents of an exceedance.
        ThresholdDifferentialInputs inputs = s_case.Inputs(TensorType.BFloat16);
        ThresholdDifferentialInputs normalized = inputs with
        {
            Query1 = Normalized(inputs.Query1),
            Key1 = Normalized(inputs.Key1),
            Query2 = Normalized(inputs.Query2!),
            Key2 = Normalized(inputs.Key2!),
        };
        ThresholdCase sharp = s_case with { Options = s_case.Options with { Beta = 0.8, Mask = AttentionMask.Full } };
        AssertFails(sharp, inputs, Reference(sharp, normalized));
    }

    [Test]
    public void A_wrong_number_of_survivors_fails()
    {
        ThresholdDifferentialInputs inputs = s_case.Inputs(TensorType.BFloat16);
        using ThresholdDifferentialResult reference = s_case.Forward(AttentionDevice.Reference, inputs);
        int[] counts = reference.Survivors1.AsSpan<int>().ToArray();
        int[] wrong = [.. counts];
        wrong[100]++;
        Assert.That(SurvivorTolerance.Violation(s_case, inputs.Query1, inputs.Key1, wrong, counts), Does.Contain("row 100"));
        Assert.That(SurvivorTolerance.Violation(s_case, inputs.Query1, inputs.Key1, counts, counts), Is.Null);
    }

    private static double[] Reference(ThresholdCase test, ThresholdDifferentialInputs inputs)
    {
        using ThresholdDifferentialResult result = test.Forward(AttentionDevice.Reference, inputs);
        return Values.Doubles(result.Output);
    }

    private static AttentionTensor Normalized(AttentionTensor tensor)
    {
        HostArray<double> rows = HostArray<double>.Read(tensor);
        for (int h = 0; h < tensor.Shape.Heads; h++)
        {
            for (int r = 0; r < tensor.Shape.Rows; r++)
            {
                Span<double> row = rows.Row(0, h, r);
                double sum = 0;
                foreach (double element in row)
                {
                    sum += element * element;
                }

                foreach (ref double element in row)
                {
                    element /= Math.Sqrt(sum);
                }
            }
        }

        return Values.Tensor(rows, TensorType.BFloat16);
    }

    private static void AssertFails(ThresholdCase test, ThresholdDifferentialInputs inputs, double[] wrong)
    {
        double[] plain = PlainThresholdDifferential.Forward(test, inputs, TensorType.BFloat16);
        double[] reference = Reference(test, inputs);
        Assert.That(KernelTolerance.Violation(wrong, plain, reference, TensorType.BFloat16, out string report), Is.Not.Null, report);
    }
}
