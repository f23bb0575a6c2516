using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Commands;
using SieveAttention.Cli.Pictures;

namespace SieveAttention.Tests.Cli;

/// <summary><c>sieve map</c>: the weights, their reduction, the picture and its file.</summary>
public sealed class MapCommandTests
{
    private static IEnumerable<string> GoldenNames => TestData.GoldenNames;

    [TestCaseSource(nameof(GoldenNames))]
    public void Weights_times_values_are_the_output_before_norm_scale_and_gate(string name)
    {
        SafeTensorsFile file = SafeTensorsReader.Read(TestData.Golden(name));
        Dictionary<string, string> metadata = file.Metadata
            .Where(entry => !entry.Key.StartsWith("norm", StringComparison.Ordinal) && entry.Key != "output_scale").ToDictionary();
        Dictionary<string, StoredTensor> tensors = file.Tensors.Where(entry => entry.Key is not ("norm_gain" or "gate")).ToDictionary();
        AttentionCase plain = CaseFile.Parse(new SafeTensorsFile(name, metadata, tensors));
        CaseResult exact = plain.Forward(AttentionDevice.Reference);
        double[] output = (exact.Find("out") ?? exact.Find("out_sparse"))!.ToDoubles();
        HostArray<double> values = plain.Inputs.Read<double>("v");
        AttentionWeights weights = plain.Weights;
        int headsOfKey = weights.Heads / plain.Problem.KeyHeads;
        int channels = plain.Problem.ValueDim;
        double[] row = new double[weights.Keys];
        int[] counts = new int[weights.CountNames.Count];
        string[] countTensors = [.. exact.Tensors.Where(t => t.Type == TensorType.Int32 && t.Shape.Count == 3).Select(t => t.Name)];
        for (int index = 0; index < weights.Batch * weights.Heads * weights.Queries; index++)
        {
            int query = index % weights.Queries;
            int head = index / weights.Queries % weights.Heads;
            int batch = index / weights.Queries / weights.Heads;
            weights.Row(batch, head, query, row, counts);
            for (int channel = 0; channel < channels; channel++)
            {
                double sum = Enumerable.Range(0, weights.Keys)
                    .Sum(key => row[key] * values.Row(batch, head / headsOfKey, key)[channel]);
                Assert.That(sum, Is.EqualTo(output[(index * channels) + channel]).Within(1e-12));
            }
            for (int count = 0; count < countTensors.Length; count++)
            {
                Assert.That(counts[count], Is.EqualTo(((int[])exact.Find(countTensors[count])!.Values)[index]));
            }
        }
    }

    [TestCaseSource(nameof(GoldenNames))]
    public void Every_operator_has_a_picture(string name)
    {
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("map", TestData.Golden(name), "--out", folder["m.png"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        (int width, int height, byte[] _) = ReadPng(File.ReadAllBytes(folder["m.png"]));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(width, Is.InRange(900, 1600));
            Assert.That(height, Is.InRange(400, 1600));
            Assert.That(run.Out, Does.Contain("weights exactly 0: ").And.Contain("; key 0 has "));
            Assert.That(run.Out, Does.Match("weights from -?[0-9.]+"));
        }
    }

    [Test]
    public void A_single_weight_stays_visible_however_small_the_picture()
    {
        WeightMap map = WeightMap.Compute(new Sparse(1000, 3000, (777, 2345, -0.5)), 64);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(map.Rows, Is.LessThanOrEqualTo(64));
            Assert.That(map.Columns, Is.LessThanOrEqualTo(64));
            Assert.That(map[777 / map.RowsPerCell, 2345 / map.ColumnsPerCell], Is.EqualTo(-0.5f));
            Assert.That(map.Smallest, Is.EqualTo(-0.5));
            Assert.That(map.Largest, Is.Zero);
            Assert.That(map.VisiblePairs, Is.EqualTo(3_000_000));
            Assert.That(map.ZeroPairs, Is.EqualTo(2_999_999));
            Assert.That(map.EmptyRows, Is.EqualTo(999));
            Assert.That(map.MeanCounts, Is.EqualTo(new[] { 0.001 }));
            Assert.That(map.MostCounts[0].Max(), Is.EqualTo(1));
        }
    }

    [Test]
    public void Negative_positive_zero_and_masked_look_different()
    {
        WeightColors colors = new(1);
        Color positive = colors.Of(0.5);
        Color negative = colors.Of(-0.5);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(positive.Red, Is.GreaterThan(positive.Blue));
            Assert.That(negative.Blue, Is.GreaterThan(negative.Red));
            Assert.That(colors.Of(0), Is.EqualTo(Color.White));
            Assert.That(WeightColors.Masked(1, 2), Is.Not.EqualTo(Color.White));
            Assert.That(colors.Of(1e-12), Is.Not.EqualTo(Color.White), "the smallest weight is not white");
        }
    }

    [TestCase(0, 2047, 8)]
    [TestCase(-5, 5, 4)]
    [TestCase(0, 0, 5)]
    [TestCase(1_000_000_000_000, 1_000_000_000_063, 9)]
    public void Ticks_are_round_and_few(long first, long last, int most)
    {
        IReadOnlyList<long> ticks = Ticks.Integers(first, last, most);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(ticks, Is.Not.Empty);
            Assert.That(ticks, Has.Count.LessThanOrEqualTo(most + 1));
            Assert.That(ticks, Is.All.InRange(first, last));
        }
    }

    [Test]
    public void The_picture_of_a_golden_case_is_a_whole_png_with_the_weights_in_it()
    {
        using ScratchFolder folder = new();
        ToolRun run = ToolRun.Of("map", TestData.Golden("tda-gqa-norm"), "--head", "1", "--out", folder["m.png"]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        (int width, int height, byte[] pixels) = ReadPng(File.ReadAllBytes(folder["m.png"]));
        HashSet<Color> colors = [];
        for (int i = 0; i < pixels.Length; i += 3)
        {
            colors.Add(new Color(pixels[i], pixels[i + 1], pixels[i + 2]));
        }
        using (Assert.EnterMultipleScope())
        {
            Assert.That(width, Is.InRange(900, 1600));
            Assert.That(height, Is.InRange(400, 1600));
            Assert.That(colors, Does.Contain(Color.White).And.Contain(Color.Ink).And.Contain(WeightColors.Masked(0, 1)));
            Assert.That(colors.Any(color => color.Red > color.Blue + 100), Is.True, "positive weights");
            Assert.That(colors.Any(color => color.Blue > color.Red + 100), Is.True, "negative weights");
            Assert.That(run.Out, Does.Contain("weights exactly 0: 95.529 % of visible pairs"));
            Assert.That(run.Out, Does.Contain("survivors per row: view 1 mean 0.7188, largest 2"));
            Assert.That(run.Out, Does.Contain($"written to {folder["m.png"]} ({width} x {height} pixels)"));
        }
    }

    [TestCase(1, 1)]
    [TestCase(1, 500)]
    [TestCase(300, 2)]
    [TestCase(1025, 1025)]
    public void Every_shape_has_a_picture_within_the_limit(int queries, int keys)
    {
        Sparse source = new(queries, keys, (0, 0, 1));
        foreach (int width in new[] { WeightPicture.LeastWidth, WeightPicture.UsualWidth, WeightPicture.MostWidth })
        {
            WeightMap map = WeightMap.Compute(source, WeightPicture.MostCells(width, 1));
            Canvas canvas = WeightPicture.Draw(source, map, width, ["title", new string('x', 500)]);
            Assert.That(canvas.Width, Is.LessThanOrEqualTo(1600));
            Assert.That(canvas.Height, Is.LessThanOrEqualTo(1600));
        }
    }

    [TestCase("--head=4", "--head", "from 0 to 3")]
    [TestCase("--head=-1", "--head", "'-1'")]
    [TestCase("--batch=1", "--batch", "from 0 to 0")]
    public void A_head_that_is_not_there_is_refused_and_leaves_no_file(string option, params string[] fragments)
    {
        using ScratchFolder folder = new();
        ToolRun.Of("map", TestData.Golden("tda-gqa-norm"), option, "--out", folder["m.png"]).AssertRefused(fragments);
        Assert.That(folder.FileNames, Is.Empty);
    }

    /// <summary>Takes a PNG apart: checks every chunk's checksum and returns the pixels, which must be unfiltered.</summary>
    private static (int Width, int Height, byte[] Pixels) ReadPng(byte[] file)
    {
        Assert.That(file.AsSpan(0, 8).SequenceEqual(new byte[] { 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a }), Is.True);
        (int width, int height) = (0, 0);
        using MemoryStream compressed = new();
        List<string> chunks = [];
        for (int position = 8; position < file.Length;)
        {
            int length = BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(position));
            string type = Encoding.ASCII.GetString(file, position + 4, 4);
            ReadOnlySpan<byte> data = file.AsSpan(position + 8, length);
            uint checksum = BinaryPrimitives.ReadUInt32BigEndian(file.AsSpan(position + 8 + length));
            Assert.That(checksum, Is.EqualTo(Checksum(file.AsSpan(position + 4, length + 4))), type);
            chunks.Add(type);
            if (type == "IHDR")
            {
                (width, height) = (BinaryPrimitives.ReadInt32BigEndian(data), BinaryPrimitives.ReadInt32BigEndian(data[4..]));
                Assert.That(data[8..].SequenceEqual(new byte[] { 8, 2, 0, 0, 0 }), Is.True);
            }
            if (type == "IDAT")
            {
                compressed.Write(data);
            }
            position += length + 12;
        }
        Assert.That(chunks, Is.EqualTo(new[] { "IHDR", "tEXt", "IDAT", "IEND" }));
        compressed.Position = 0;
        using ZLibStream zlib = new(compressed, CompressionMode.Decompress);
        byte[] pixels = new byte[width * height * 3];
        for (int y = 0; y < height; y++)
        {
            Assert.That(zlib.ReadByte(), Is.Zero);
            zlib.ReadExactly(pixels, y * width * 3, width * 3);
        }
        Assert.That(zlib.ReadByte(), Is.EqualTo(-1));
        return (width, height, pixels);
    }

    /// <summary>CRC-32 bit by bit.</summary>
    private static uint Checksum(ReadOnlySpan<byte> data)
    {
        uint checksum = uint.MaxValue;
        foreach (byte value in data)
        {
            checksum ^= value;
            for (int bit = 0; bit < 8; bit++)
            {
                checksum = (checksum >> 1) ^ (0xedb88320 & (0 - (checksum & 1)));
            }
        }
        return ~checksum;
    }

    /// <summary>Weights of which all but one are zero; every key is visible.</summary>
    private sealed class Sparse(int queries, int keys, (int Query, int Key, double Weight) only) : IWeightSource
    {
        public int Queries => queries;

        public int Keys => keys;

        public long QueryOffset => 0;

        public IReadOnlyList<string> CountNames => ["view 1"];

        public (int First, int End) Row(int query, Span<double> weights, Span<int> counts)
        {
            weights.Clear();
            counts[0] = query == only.Query ? 1 : 0;
            if (query == only.Query)
            {
                weights[only.Key] = only.Weight;
            }
            return (0, keys);
        }
    }
}
