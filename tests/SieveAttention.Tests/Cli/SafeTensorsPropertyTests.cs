using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cli;

/// <summary>What holds for every file, tried on random ones.</summary>
public sealed class SafeTensorsPropertyTests
{
    private static readonly TensorType[] s_types = Enum.GetValues<TensorType>();

    [Test]
    public void What_was_written_is_read_again() => Properties.ForAllSeeds(seed =>
    {
        SafeTensorsFile written = RandomFile(new Random(seed));
        SafeTensorsFile read = Read(Write(written));
        Assert.That(read.Metadata, Is.EquivalentTo(written.Metadata));
        Assert.That(read.Tensors.Keys, Is.EquivalentTo(written.Tensors.Keys));
        foreach ((string name, StoredTensor tensor) in written.Tensors)
        {
            StoredTensor found = read.Tensors[name];
            Assert.That(found.Shape, Is.EqualTo(tensor.Shape));
            Assert.That(found.Type, Is.EqualTo(tensor.Type));
            Assert.That(found.Bytes(0, found.Count).SequenceEqual(tensor.Bytes(0, tensor.Count)), Is.True);
        }
    });

    [Test]
    public void The_same_content_gives_the_same_bytes_in_any_order_with_aligned_data() => Properties.ForAllSeeds(seed =>
    {
        SafeTensorsFile file = RandomFile(new Random(seed));
        byte[] bytes = Write(file);
        SafeTensorsFile reversed = new("", new Dictionary<string, string>(file.Metadata.Reverse()), file.Tensors);
        using MemoryStream stream = new();
        SafeTensorsWriter.Write(stream, reversed.Metadata, file.Tensors.Values.Reverse());
        Assert.That(stream.ToArray(), Is.EqualTo(bytes));
        Assert.That(BitConverter.ToUInt64(bytes) % 8, Is.Zero);
    });

    [Test]
    public void A_truncated_file_is_refused() => Properties.ForAllSeeds(seed =>
    {
        Random random = new(seed);
        byte[] bytes = Write(RandomFile(random));
        byte[] cut = bytes[..random.Next(bytes.Length)];
        Assert.That(() => Read(cut), Throws.TypeOf<CaseException>());
    });

    [Test]
    public void A_lengthened_file_is_refused() => Properties.ForAllSeeds(seed =>
    {
        Random random = new(seed);
        byte[] bytes = Write(RandomFile(random));
        Assert.That(() => Read([.. bytes, .. new byte[random.Next(1, 64)]]), Throws.TypeOf<CaseException>());
    });

    [Test]
    public void Changed_bytes_give_a_file_or_a_refusal_and_nothing_else() => Properties.ForAllSeeds(
        seed =>
        {
            Random random = new(seed);
            byte[] bytes = Write(RandomFile(random));
            int headerEnd = 8 + (int)BitConverter.ToUInt64(bytes);
            for (int change = random.Next(1, 6); change > 0; change--)
            {
                const string Json = "{}[]\",:0129-.eE\\ u";
                byte value = random.Next(3) == 0 ? (byte)random.Next(256) : (byte)Json[random.Next(Json.Length)];
                bytes[random.Next(headerEnd)] = value;
            }
            ReadOrRefuse(bytes);
        },
        count: 2000);

    [Test]
    public void A_golden_case_with_changed_bytes_gives_a_case_or_a_refusal_and_nothing_else()
    {
        byte[] golden = File.ReadAllBytes(TestData.Golden("tda-gqa-norm"));
        int headerEnd = 8 + (int)BitConverter.ToUInt64(golden);
        Properties.ForAllSeeds(
            seed =>
            {
                Random random = new(seed);
                byte[] bytes = [.. golden];
                bytes[random.Next(headerEnd)] ^= (byte)(1 << random.Next(8));
                try
                {
                    CaseFile.Parse(Read(bytes));
                }
                catch (CaseException refusal)
                {
                    Assert.That(refusal.Message, Does.Not.Contain("\n").And.StartWith("x"));
                }
            },
            count: 1000);
    }

    [Test]
    public void Random_bytes_are_refused() => Properties.ForAllSeeds(seed =>
    {
        Random random = new(seed);
        byte[] bytes = new byte[random.Next(200)];
        random.NextBytes(bytes);
        if (bytes.Length > 8 && random.Next(2) == 0)
        {
            BitConverter.TryWriteBytes(bytes, (ulong)random.Next(bytes.Length - 7));
        }
        Assert.That(() => Read(bytes), Throws.TypeOf<CaseException>());
    });

    private static void ReadOrRefuse(byte[] bytes)
    {
        try
        {
            Read(bytes);
        }
        catch (CaseException refusal)
        {
            Assert.That(refusal.Message, Does.Not.Contain("\n"));
        }
    }

    private static SafeTensorsFile RandomFile(Random random)
    {
        Dictionary<string, string> metadata = [];
        for (int i = random.Next(4); i > 0; i--)
        {
            metadata[RandomText(random)] = RandomText(random);
        }
        Dictionary<string, StoredTensor> tensors = [];
        for (int i = random.Next(1, 5); i > 0; i--)
        {
            string name = $"t{i}{RandomText(random)}";
            int[] shape = [.. Enumerable.Range(0, random.Next(1, 5)).Select(_ => random.Next(1, 4))];
            int count = shape.Aggregate(1, (product, size) => product * size);
            StoredTensor tensor = new(name, shape, StoredTensor.AllocateValues(s_types[random.Next(s_types.Length)], count));
            random.NextBytes(tensor.Bytes(0, count));
            tensors.Add(name, tensor);
        }
        return new SafeTensorsFile("x", metadata, tensors);
    }

    private static string RandomText(Random random)
    {
        string letters = "ab\"\\\n\u00e4\u4e2d/ \u0000";
        return new string([.. Enumerable.Range(0, random.Next(5)).Select(_ => letters[random.Next(letters.Length)])]);
    }

    private static byte[] Write(SafeTensorsFile file)
    {
        using MemoryStream stream = new();
        SafeTensorsWriter.Write(stream, file.Metadata, file.Tensors.Values);
        return stream.ToArray();
    }

    private static SafeTensorsFile Read(byte[] bytes)
    {
        using MemoryStream stream = new(bytes);
        return SafeTensorsReader.Read(stream, "x");
    }
}
