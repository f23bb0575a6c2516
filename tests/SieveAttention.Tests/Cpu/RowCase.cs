using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

/// <summary>Random inputs of an operator with one view, as the Cpu device takes them, and the same numbers as the reference does.</summary>
internal sealed class RowCase
{
    internal RowCase(AttentionProblem problem, double scale = 0.7, bool rowFactor = false, bool alibi = false, int seed = 11)
    {
        Random random = new(seed);
        Problem = problem;
        Query = Next(problem.QueryShape);
        Key = Next(problem.KeyShape);
        Value = Next(problem.ValueShape);
        OutputGradient = Next(problem.OutputShape);
        HostArray<float>? factors = rowFactor ? Next(problem.RowShape) : null;
        float[]? slopes = alibi ? [.. Enumerable.Range(1, problem.QueryHeads).Select(head => 0.3f / head)] : null;
        Terms = new ScoreTerms<float>((float)scale, factors, slopes);
        ReferenceTerms = new ScoreTerms<double>(
            (float)scale, factors is null ? null : Wide(factors), slopes is null ? null : Array.ConvertAll(slopes, slope => (double)slope));

        HostArray<float> Next(TensorShape shape)
        {
            HostArray<float> array = new(shape);
            Array.ConvertAll(Values.Normal(random, shape.Count), value => (float)value).CopyTo(array.Data, 0);
            return array;
        }
    }

    internal AttentionProblem Problem { get; }

    internal HostArray<float> Query { get; }

    internal HostArray<float> Key { get; }

    internal HostArray<float> Value { get; }

    internal HostArray<float> OutputGradient { get; }

    internal ScoreTerms<float> Terms { get; }

    internal ScoreTerms<double> ReferenceTerms { get; }

    /// <summary>
    /// Problems whose tiles are whole, cut, empty or single rows; windows, offsets, head groups, and channels that are no multiple of a
    /// vector.
    /// </summary>
    internal static IEnumerable<AttentionProblem> Problems()
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

    internal static HostArray<double> Wide(HostArray<float> array)
    {
        HostArray<double> wide = new(array.Shape);
        Wide(array.Data).CopyTo(wide.Data, 0);
        return wide;
    }

    internal static double[] Wide(float[] values) => Array.ConvertAll(values, value => (double)value);

    /// <summary>Checks that values are within a share of the largest expected magnitude.</summary>
    internal static void AssertClose(string name, float[] actual, double[] expected, double tolerance)
    {
        Deviation deviation = Deviation.Of(Wide(actual), expected);
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{name}: {deviation}");
    }
}
