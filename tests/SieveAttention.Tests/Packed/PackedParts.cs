using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Packed;

/// <summary>Packed random tensors, and comparisons of what all sequences give together with what each gives alone.</summary>
internal sealed class PackedParts
{
    public const int QueryHeads = 4;
    public const int KeyHeads = 2;
    public const int HeadDim = 6;
    public const int ValueDim = 5;

    private readonly Random _random = new(7);

    /// <summary>The devices that compute packed sequences.</summary>
    public static AttentionDevice[] Devices { get; } = [AttentionDevice.Reference, AttentionDevice.Cpu];

    /// <summary>Four sequences; the second has keys only.</summary>
    public static PackedSequences Sequences { get; } = new([0, 5, 5, 12, 13], [0, 9, 11, 18, 24]);

    /// <summary>The sequences with query rows.</summary>
    public static IEnumerable<int> WithQueries => Enumerable.Range(0, Sequences.Count).Where(n => Sequences.Queries(n).Count > 0);

    public AttentionTensor Query() => Tensor(QueryHeads, 13, HeadDim);

    public AttentionTensor Key() => Tensor(KeyHeads, 24, HeadDim);

    public AttentionTensor Value() => Tensor(KeyHeads, 24, ValueDim);

    public AttentionTensor Rows(int heads) => Tensor(heads, 13, 1);

    public AttentionTensor Output(int heads) => Tensor(heads, 13, ValueDim);

    public AttentionTensor Gain() => Values.Tensor(Values.Normal(_random, ValueDim), new TensorShape(1, 1, 1, ValueDim));

    public static AttentionTensor Rows(AttentionTensor tensor, int n) =>
        tensor.Slice(2, Sequences.Queries(n).First, Sequences.Queries(n).Count);

    public static AttentionTensor Keys(AttentionTensor tensor, int n) => tensor.Slice(2, Sequences.Keys(n).First, Sequences.Keys(n).Count);

    /// <summary>Rows of queries are those of the sequence alone.</summary>
    public static void SameRows(int n, params ReadOnlySpan<(AttentionTensor? Packed, AttentionTensor? Alone)> tensors)
    {
        foreach ((AttentionTensor? packed, AttentionTensor? alone) in tensors)
        {
            Assert.That(Elements(Rows(packed!, n)), Is.EqualTo(Elements(alone!)), $"sequence {n}");
        }
    }

    /// <summary>Rows of keys are those of the sequence alone; those of a sequence without queries are 0.</summary>
    public static void SameKeys(int n, params ReadOnlySpan<(AttentionTensor Packed, AttentionTensor Alone)> tensors)
    {
        foreach ((AttentionTensor packed, AttentionTensor alone) in tensors)
        {
            Assert.That(Elements(Keys(packed, n)), Is.EqualTo(Elements(alone)), $"sequence {n}");
            Assert.That(Elements(Keys(packed, 1)), Is.All.Zero);
        }
    }

    /// <summary>A gradient that sequences share is the sum of theirs.</summary>
    public static void IsSum(AttentionDevice device, IEnumerable<double> packed, IEnumerable<double[]> alone)
    {
        // Sums of a few rounded numbers.
        double rounding = device.Kind == AttentionDeviceKind.Reference ? 1e-12 : 1e-6;
        double[] sum = alone.Aggregate((total, part) => total.Zip(part, (x, y) => x + y).ToArray());
        Assert.That(Deviation.Of(packed.ToArray(), sum).Relative, Is.LessThan(rounding));
        Assert.That(sum.Any(x => x != 0), "something is summed");
    }

    private static double[] Elements(AttentionTensor tensor)
    {
        if (tensor.Type != TensorType.Int32)
        {
            return Values.Doubles(tensor);
        }

        using AttentionTensor dense = tensor.ToHost();
        return Array.ConvertAll(dense.AsSpan<int>().ToArray(), x => (double)x);
    }

    private AttentionTensor Tensor(int heads, int rows, int channels) =>
        Values.Tensor(Values.Normal(_random, 2 * heads * rows * channels), new TensorShape(2, heads, rows, channels));
}
