using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

[TestFixture]
internal sealed class KeyValueCacheTests
{
    private static readonly KeyValueCacheLayout s_layout = new(2, 2, 3, 2);

    [Test]
    public void Pages_are_taken_as_sequences_grow_and_given_back()
    {
        KeyValueCache cache = KeyValueCache.Paged(s_layout, pageSize: 4, pages: 5);
        Append(cache, 0, 5);
        Append(cache, 1, 4);
        Append(cache, 0, 4);
        Assert.Multiple(() =>
        {
            Assert.That(cache.PageTable(0), Is.EqualTo((int[])[0, 1, 3]));
            Assert.That(cache.PageTable(1), Is.EqualTo((int[])[2]));
            Assert.That(cache.Length(0), Is.EqualTo(9));
            Assert.That(cache.FreePages, Is.EqualTo(1));
        });
        cache.Truncate(0, 4);
        Assert.That(cache.PageTable(0), Is.EqualTo((int[])[0]));
        Assert.That(cache.FreePages, Is.EqualTo(3));
    }

    [Test]
    public void Keys_and_values_come_back_from_every_page()
    {
        KeyValueCache cache = KeyValueCache.Paged(s_layout with { Type = TensorType.Float64 }, pageSize: 4, pages: 5);
        HostArray<double> keys = Values.NormalArray(new Random(1), new TensorShape(1, 2, 11, 3));
        HostArray<double> values = Values.NormalArray(new Random(2), new TensorShape(1, 2, 11, 2));
        using AttentionTensor key = Values.Tensor(keys);
        using AttentionTensor value = Values.Tensor(values);
        cache.Append(1, key.Slice(2, 0, 6), value.Slice(2, 0, 6));
        cache.Append(1, key.Slice(2, 6, 5), value.Slice(2, 6, 5));
        for (int head = 0; head < 2; head++)
        {
            for (int j = 0; j < 11; j++)
            {
                Assert.That(cache.Keys<double>(0, 1, head, j, 1, default).ToArray(), Is.EqualTo(keys.Row(0, head, j).ToArray()));
                Assert.That(cache.Values<double>(1, head, j, 1, default).ToArray(), Is.EqualTo(values.Row(0, head, j).ToArray()));
            }
        }
    }

    [TestCase(TensorType.Float32)]
    [TestCase(TensorType.Float16)]
    [TestCase(TensorType.BFloat16)]
    public void Appended_values_are_rounded_once_to_the_type_of_the_cache(TensorType type)
    {
        KeyValueCache cache = KeyValueCache.Contiguous(s_layout with { Type = type }, 2);
        double[] keys = Values.Normal(new Random(3), 6);
        cache.Append(0, Values.Tensor(keys, new TensorShape(1, 2, 1, 3)), Values.Tensor(new double[4], new TensorShape(1, 2, 1, 2)));
        double[] scratch = new double[3];
        Assert.That(
            cache.Keys<double>(0, 0, 1, 0, 1, scratch).ToArray(), Is.EqualTo(keys.Skip(3).Select(k => Values.Round(k, type)).ToArray()));
    }

    [Test]
    public void A_full_sequence_is_refused_and_stays_as_it_is()
    {
        KeyValueCache cache = KeyValueCache.Contiguous(s_layout, 6);
        Append(cache, 0, 4);
        Assert.That(
            () => Append(cache, 0, 3),
            Throws.InvalidOperationException.With.Message.EqualTo("Sequence 0 has 4 keys and 3 more do not fit; at most 6 do."));
        Assert.That(cache.Length(0), Is.EqualTo(4));
    }

    [Test]
    public void Missing_pages_are_refused_before_any_sequence_grows()
    {
        KeyValueCache cache = KeyValueCache.Paged(s_layout, pageSize: 4, pages: 3);
        Append(cache, 0, 4);
        TensorShape shape = new(2, 2, 5, 3);
        using AttentionTensor key = AttentionTensor.Allocate(TensorType.Float32, shape);
        using AttentionTensor value = AttentionTensor.Allocate(TensorType.Float32, shape with { Channels = 2 });
        Assert.That(
            () => cache.Append(key, value),
            Throws.InvalidOperationException.With.Message.EqualTo(
                "5 more keys for each of 2 sequences need 4 pages of 4 keys; 2 of 3 are free."));
        Assert.That(
            () => Append(cache, 1, 9),
            Throws.InvalidOperationException.With.Message.EqualTo(
                "9 more keys of sequence 1 need 3 pages of 4 keys; 2 of 3 are free."));
        Assert.That((cache.Length(0), cache.Length(1), cache.FreePages), Is.EqualTo((4, 0, 2)));
    }

    [Test]
    public void Wrong_arguments_are_named()
    {
        KeyValueCache cache = KeyValueCache.Contiguous(s_layout, 6);
        using AttentionTensor key = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 2, 1, 3));
        using AttentionTensor value = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 2, 1, 2));
        Assert.Multiple(() =>
        {
            Assert.That(
                () => cache.Append(0, value, value),
                Throws.ArgumentException.With.Message.Contains("key has shape [1, 2, 1, 2]"));
            Assert.That(
                () => cache.Append(0, key, key),
                Throws.ArgumentException.With.Message.Contains("value has shape [1, 2, 1, 3]"));
            Assert.That(
                () => cache.Append(0, key, value, key),
                Throws.ArgumentException.With.Message.Contains("key2 is given"));
            Assert.That(
                () => cache.Append(2, key, value),
                Throws.InstanceOf<ArgumentException>().With.Message.Contains("sequence is 2; allowed: 0 to 1"));
            Assert.That(
                () => cache.Truncate(0, 1),
                Throws.InstanceOf<ArgumentException>().With.Message.Contains("length is 1; allowed: 0 to 0"));
            Assert.That(
                () => KeyValueCache.Paged(s_layout, 0, 1),
                Throws.InstanceOf<ArgumentException>().With.Message.Contains("pageSize is 0; allowed: 1 to"));
            Assert.That(
                () => KeyValueCache.Contiguous(s_layout with { Views = 3 }, 1),
                Throws.InstanceOf<ArgumentException>().With.Message.Contains("Views is 3; allowed: 1 to 2"));
            Assert.That(
                () => KeyValueCache.Contiguous(s_layout with { Type = TensorType.Int32 }, 1),
                Throws.InstanceOf<ArgumentException>().With.Message.Contains("Type is Int32; allowed: Float64"));
        });
    }

    private static void Append(KeyValueCache cache, int sequence, int rows) => cache.Append(
        sequence,
        AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 2, rows, 3)),
        AttentionTensor.Allocate(TensorType.Float32, new TensorShape(1, 2, rows, 2)));
}
