using NUnit.Framework;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Tests.Support;
using CpuOperator = SieveAttention.Cpu.ThresholdDifferential;
using Definition = SieveAttention.Reference.ThresholdDifferential;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// One threshold differential problem on the Cpu device and, from the same float32 inputs, on the float64 reference.
/// </summary>
/// <remarks>
/// <para>
/// A float32 score is a chain of D fused steps on unit vectors rounded once: its error is below (D + 4) 2^-24, in practice a few 2^-24.
/// Survivors can differ only where |s - tau| is below that; <see cref="Band"/> is 2^-18 and covers D up to 60 with certainty and all D
/// here by a wide margin. Such a pair has a weight below 2^-18 for any power, so outputs are not affected beyond their tolerance.
/// </para>
/// <para>
/// Output tolerance 1e-5 of the largest output: weights e^p with e ~ 0.1 turn a score error of 2e-7 into p 2e-6 relative at worst.
/// Gradients 1e-4: slopes e^(p-1) lose a digit more, and sums over rows cancel. Power 1 has a jump at tau and power 1.5 an infinite
/// second derivative; their gradients are compared where no pair is within the band, and with 1e-3.
/// </para>
/// </remarks>
internal sealed class CpuThreshold
{
    internal const double Band = 1.0 / (1 << 18);

    private readonly ThresholdCase _test;

    internal CpuThreshold(ThresholdCase test)
    {
        _test = test;
        ThresholdDifferentialInputs inputs = test.Inputs(TensorType.Float32);
        (Query1, Key1, Value) = (Read(inputs.Query1)!, Read(inputs.Key1)!, Read(inputs.Value)!);
        (Query2, Key2) = (Read(inputs.Query2), Read(inputs.Key2));
        (Gain, Gate) = (Read(inputs.NormGain)?.Data, Read(inputs.Gate));
        OutputGradient = Read(test.OutputGradient())!;
        Parameters = test.Options.ToParameters(test.QueryHeads);
    }

    internal HostArray<float> Query1 { get; set; }

    internal HostArray<float> Key1 { get; set; }

    internal HostArray<float>? Query2 { get; set; }

    internal HostArray<float>? Key2 { get; set; }

    internal HostArray<float> Value { get; set; }

    internal float[]? Gain { get; }

    internal HostArray<float>? Gate { get; }

    internal HostArray<float> OutputGradient { get; }

    internal ThresholdDifferentialParameters Parameters { get; set; }

    internal ThresholdDifferentialForward<float> Forward(CpuExecution? execution = null, ThresholdTuning? tuning = null) =>
        CpuOperator.Forward(
            _test.Problem, Parameters, Query1, Key1, Query2, Key2, Value, Gain, Gate,
            execution ?? CpuExecution.Default, tuning ?? ThresholdTuning.Default);

    internal ThresholdDifferentialBackward<float> Backward(CpuExecution? execution = null, ThresholdTuning? tuning = null) =>
        CpuOperator.Backward(
            _test.Problem, Parameters, Query1, Key1, Query2, Key2, Value, Gain, Gate, OutputGradient,
            execution ?? CpuExecution.Default, tuning ?? ThresholdTuning.Default);

    internal ThresholdDifferentialForward<double> ReferenceForward() =>
        Definition.Forward(
            _test.Problem, Parameters, Widen(Query1), Widen(Key1), WidenOptional(Query2), WidenOptional(Key2), Widen(Value),
            WidenArray(Gain), WidenOptional(Gate));

    internal ThresholdDifferentialBackward<double> ReferenceBackward(HostArray<double>? dout = null) =>
        Definition.Backward(
            _test.Problem, Parameters, Widen(Query1), Widen(Key1), WidenOptional(Query2), WidenOptional(Key2), Widen(Value),
            WidenArray(Gain), WidenOptional(Gate), dout ?? Widen(OutputGradient));

    internal void AssertForward(CpuExecution? execution = null, ThresholdTuning? tuning = null)
    {
        ThresholdDifferentialForward<float> actual = Forward(execution, tuning);
        ThresholdDifferentialForward<double> expected = ReferenceForward();
        AssertClose(actual.Output.Data, expected.Output.Data, 1e-5, "out");
        AssertSurvivors(actual.Survivors1, expected.Survivors1, NearThreshold(Query1, Key1), "survivors1");
        Assert.That(actual.Survivors2 is null, Is.EqualTo(Query2 is null));
        if (Query2 is not null)
        {
            AssertSurvivors(actual.Survivors2!, expected.Survivors2!, NearThreshold(Query2, Key2!), "survivors2");
        }
    }

    internal void AssertBackward(CpuExecution? execution = null, ThresholdTuning? tuning = null)
    {
        bool smooth = Parameters.Power >= 2;
        int near = NearThreshold(Query1, Key1).Sum() + (Query2 is null ? 0 : NearThreshold(Query2, Key2!).Sum());
        if (!smooth && near > 0)
        {
            return;
        }

        double tolerance = smooth ? 1e-4 : 1e-3;
        ThresholdDifferentialBackward<float> actual = Backward(execution, tuning);
        ThresholdDifferentialBackward<double> expected = ReferenceBackward();
        AssertClose(actual.Query1.Data, expected.Query1.Data, tolerance, "dq1");
        AssertClose(actual.Key1.Data, expected.Key1.Data, tolerance, "dk1");
        AssertClose(actual.Query2?.Data, expected.Query2?.Data, tolerance, "dq2");
        AssertClose(actual.Key2?.Data, expected.Key2?.Data, tolerance, "dk2");
        AssertClose(actual.Value.Data, expected.Value.Data, tolerance, "dv");
        AssertClose(actual.Gate?.Data, expected.Gate?.Data, tolerance, "dgate");
        ThresholdDifferentialBackward<double>[] scales = [expected, .. Enumerable.Range(1, 4).Select(WithRandomSigns)];
        double[] dgain = Array.ConvertAll(actual.NormGain ?? [], value => (double)value);
        AssertSums(dgain, scales, gradients => gradients.NormGain ?? [], tolerance, "dgain");
        AssertSums(actual.Beta, scales, gradients => gradients.Beta, tolerance, "dbeta");
        AssertSums(actual.Lambda, scales, gradients => gradients.Lambda, tolerance, "dlambda");
        AssertSums([actual.Kappa], scales, gradients => [gradients.Kappa], tolerance, "dkappa");
    }

    /// <summary>Pairs of each row whose score is within the band around its threshold.</summary>
    internal int[] NearThreshold(HostArray<float> q, HostArray<float> k)
    {
        AttentionProblem problem = _test.Problem;
        (HostArray<double> queries, HostArray<double> keys) = (Widen(q), Widen(k));
        int[] near = new int[problem.RowShape.Count];
        int index = 0;
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                for (int i = 0; i < problem.Queries; i++, index++)
                {
                    KeyRange visible = problem.Visible(i);
                    double tau = Scores.Threshold(_test.Options, visible.Count, problem.HeadDim);
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        double s = Scores.Cosine(queries.Row(b, h, i), keys.Row(b, problem.KeyHead(h), j));
                        near[index] += Math.Abs(s - tau) <= Band ? 1 : 0;
                    }
                }
            }
        }

        return near;
    }

    private static void AssertSurvivors(int[] actual, int[] expected, int[] near, string what)
    {
        for (int row = 0; row < actual.Length; row++)
        {
            if (Math.Abs(actual[row] - expected[row]) > near[row])
            {
                Assert.Fail($"{what} of row {row}: {actual[row]}, expected {expected[row]} with {near[row]} scores at the threshold");
            }
        }
    }

    private static void AssertClose(float[]? actual, double[]? expected, double tolerance, string what)
    {
        Assert.That(actual is null, Is.EqualTo(expected is null), what);
        if (actual is not null)
        {
            Deviation deviation = Deviation.Of(Array.ConvertAll(actual, value => (double)value), expected);
            Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{what}: {deviation}");
        }
    }

    /// <summary>
    /// Sums over all rows cancel, and rounding errors do not: the scale of their tolerance is what such a sum amounts to, the largest of
    /// the expected one and of those where the gradients of random rows have their sign turned. The keys of a row cancel, too, which this
    /// does not show: hence five times the tolerance.
    /// </summary>
    private static void AssertSums(
        double[] actual,
        ThresholdDifferentialBackward<double>[] scales,
        Func<ThresholdDifferentialBackward<double>, double[]> select,
        double tolerance,
        string what)
    {
        double scale = scales.SelectMany(select).Select(Math.Abs).DefaultIfEmpty().Max();
        Assert.That(actual, Is.EqualTo(select(scales[0])).Within(5 * tolerance * scale), $"{what}, scale {scale}");
    }

    private ThresholdDifferentialBackward<double> WithRandomSigns(int seed)
    {
        Random random = new(seed);
        HostArray<double> dout = Widen(OutputGradient);
        int channels = dout.Shape.Channels;
        for (int row = 0; row < dout.Data.Length; row += channels)
        {
            double sign = random.Next(2) == 0 ? 1 : -1;
            foreach (ref double value in dout.Data.AsSpan(row, channels))
            {
                value *= sign;
            }
        }

        return ReferenceBackward(dout);
    }

    private static HostArray<float>? Read(AttentionTensor? tensor) => tensor is null ? null : HostArray<float>.Read(tensor);

    private static double[]? WidenArray(float[]? values) => values is null ? null : Array.ConvertAll(values, value => (double)value);

    private static HostArray<double>? WidenOptional(HostArray<float>? array) => array is null ? null : Widen(array);

    private static HostArray<double> Widen(HostArray<float> array)
    {
        HostArray<double> wide = new(array.Shape);
        WidenArray(array.Data)!.CopyTo(wide.Data, 0);
        return wide;
    }
}
