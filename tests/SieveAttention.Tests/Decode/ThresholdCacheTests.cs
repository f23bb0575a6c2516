using NUnit.Framework;
using SieveAttention.Decoding;
using SieveAttention.Interop;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Decode;

/// <summary>What caches in device memory refuse, as far as it shows without a device.</summary>
[TestFixture]
internal sealed class ThresholdCacheTests
{
    private static readonly KeyValueCacheLayout s_layout = new(2, 2, 64, 64) { Type = TensorType.BFloat16, Views = 2 };

    [TestCase(0)]
    [TestCase(8)]
    [TestCase(24)]
    [TestCase(-16)]
    public void A_page_size_that_kernels_do_not_read_is_refused_with_those_allowed(int pageSize) => Assert.That(
        () => DeviceSequences.CheckPages(sequences: 2, pageSize, pages: 4, capacity: null),
        Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.StartsWith($"pageSize is {pageSize}; allowed: multiples of 16.")
            .And.Property("ParamName").EqualTo("pageSize"));

    [Test]
    public void Pages_and_capacity_are_checked_beside_it()
    {
        Assert.Multiple(() =>
        {
            Assert.That(DeviceSequences.CheckPages(2, 16, 4, capacity: null), Is.EqualTo(4));
            Assert.That(DeviceSequences.CheckPages(2, 16, 4, capacity: 17), Is.EqualTo(2));
            Assert.That(
                () => DeviceSequences.CheckPages(2, 16, 0, capacity: null),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("pages is 0; allowed: 1 to"));
            Assert.That(
                () => DeviceSequences.CheckPages(2, 16, 4, capacity: 65),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("capacity is 65; allowed: 1 to 64."));
        });
    }

    [Test]
    public void A_layout_that_kernels_do_not_take_is_refused()
    {
        Assert.Multiple(() =>
        {
            Assert.That(
                () => DeviceThresholdCache.CheckLayout(s_layout with { Type = TensorType.Float32 }, KeyScreen.None),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("Type is Float32; allowed: Float16, BFloat16"));
            Assert.That(
                () => DeviceThresholdCache.CheckLayout(s_layout with { Views = 3 }, KeyScreen.None),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("Views is 3; allowed: 1 to 2"));
            Assert.That(
                () => DeviceThresholdCache.CheckLayout(s_layout, (KeyScreen)7),
                Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("screen is 7; allowed: None, EightBits, FourBits"));
            Assert.That(() => DeviceThresholdCache.Contiguous(null!, s_layout, 16), Throws.ArgumentNullException);
            Assert.That(() => DeviceThresholdCache.Paged(null!, s_layout, 16, 4), Throws.ArgumentNullException);
        });
    }

    [Test]
    public void Screens_are_those_of_the_native_library()
    {
        Assert.Multiple(() =>
        {
            Assert.That((int)KeyScreen.None, Is.EqualTo((int)SieveTdaScreen.None));
            Assert.That((int)KeyScreen.EightBits, Is.EqualTo((int)SieveTdaScreen.Int8));
            Assert.That((int)KeyScreen.FourBits, Is.EqualTo((int)SieveTdaScreen.Int4));
        });
    }

    [TestCase(KeyScreen.None, 64, 0)]
    [TestCase(KeyScreen.EightBits, 64, 272)]
    [TestCase(KeyScreen.FourBits, 64, 144)]
    [TestCase(KeyScreen.FourBits, 32, 144)]
    [TestCase(KeyScreen.EightBits, 96, 528)]
    [TestCase(KeyScreen.FourBits, 128, 272)]
    public void Images_of_16_keys_have_so_many_words(KeyScreen screen, int headDim, int words) =>
        Assert.That(CachedThresholdKeys.ImageWords(screen, headDim), Is.EqualTo(words));

    [Test]
    public void Images_of_wider_keys_are_refused() => Assert.That(
        () => CachedThresholdKeys.ImageWords(KeyScreen.FourBits, 256),
        Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("headDim is 256; allowed: 1 to 128"));

    [Test]
    public void Host_devices_and_host_memory_are_refused_with_what_to_take_instead()
    {
        AttentionTensor keys = AttentionTensor.Allocate(TensorType.BFloat16, new TensorShape(2, 2, 16, 64));
        CachedThresholdKeys cache = new()
        {
            Key1 = keys,
            Value = keys,
            InverseNorms1 = AttentionTensor.Allocate(TensorType.Float32, new TensorShape(2, 2, 16, 1)),
        };
        AttentionTensor query = AttentionTensor.Allocate(TensorType.BFloat16, new TensorShape(2, 4, 1, 64));
        using ThresholdDifferentialResult into = new(query, AttentionTensor.Allocate(TensorType.Int32, new TensorShape(2, 4, 1, 1)));
        ThresholdDifferentialDecodeInputs inputs = new() { Query1 = query };
        Assert.Multiple(() =>
        {
            Assert.That(
                () => new ThresholdDifferentialAttention(AttentionDevice.Cpu).Decode(inputs, cache, into),
                Throws.TypeOf<NotSupportedException>().With.Message.EqualTo(
                    "Decode with a cache in device memory does not run on cpu; devices that have it: Cuda."));
            Assert.That(
                () => cache.Append(keys, keys),
                Throws.ArgumentException.With.Message.Contains("Key1 is").And.Message.Contains("in the memory of a CUDA device"));
            Assert.That(
                () => cache.Describe(1), Throws.ArgumentException.With.Message.Contains("in the memory of a CUDA device"));
        });
    }
}
