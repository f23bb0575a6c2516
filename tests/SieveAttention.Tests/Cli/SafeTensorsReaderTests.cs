using System.Buffers.Binary;
using System.Text;
using NUnit.Framework;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Cli;

/// <summary>Files that are not what they must be: each fault gives one line that names the key, the value and what is allowed.</summary>
public sealed class SafeTensorsReaderTests
{
    private const string Tensor = """{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""";

    private static IEnumerable<TestCaseData> Headers()
    {
        static TestCaseData Fault(string name, string json, int data, params string[] fragments) =>
            new TestCaseData(json, data, fragments).SetName($"A_header_is_refused_with({name})");

        yield return Fault("nothing", "", 0, "header", "empty");
        yield return Fault("no JSON", "{nonsense", 0, "header", "not JSON");
        yield return Fault("unfinished JSON", """{"q":""", 0, "header", "not JSON");
        yield return Fault("a comma too much", $$"""{"q":{{Tensor}},}""", 8, "header", "not JSON");
        yield return Fault("a comment", $$"""{/* */"q":{{Tensor}}}""", 8, "header", "not JSON");
        yield return Fault("an array", "[]", 0, "header", "'['", "JSON object");
        yield return Fault("spaces before", $$"""  {"q":{{Tensor}}}""", 8, "header", "' '", "JSON object");
        yield return Fault("text after", $$"""{"q":{{Tensor}}} {}""", 8, "header");
        yield return Fault("half a surrogate pair", """{"\ud800":1}""", 0, "header", "Unicode");
        yield return Fault("deep nesting", $"{{\"q\":{new string('[', 5000)}{new string(']', 5000)}}}",
            0, "tensor 'q'", "an array", "object");
        yield return Fault("deep nesting of objects", $$$"""{"q":{"dtype":{{{new string('[', 5000)}}}""",
            0, "dtype of tensor 'q'", "an array");
        yield return Fault("a tensor twice", $$"""{"q":{{Tensor}},"q":{{Tensor}}}""", 8, "'q'", "twice", "once");
        yield return Fault("metadata twice", """{"__metadata__":{},"__metadata__":{}}""", 0, "'__metadata__'", "twice");
        yield return Fault("a metadata key twice", """{"__metadata__":{"op":"tda","op":"tda"}}""", 0, "metadata 'op'", "twice");
        yield return Fault("an escaped key twice", """{"__metadata__":{"op":"tda","\u006fp":"tda"}}""", 0, "metadata 'op'", "twice");
        yield return Fault("metadata of a number", """{"__metadata__":{"beta":1.5}}""", 0, "metadata 'beta'", "'1.5'", "string");
        yield return Fault("metadata of null", """{"__metadata__":{"beta":null}}""", 0, "metadata 'beta'", "'null'", "string");
        yield return Fault("metadata of an object", """{"__metadata__":{"beta":{}}}""", 0, "metadata 'beta'", "an object", "string");
        yield return Fault("metadata that is text", """{"__metadata__":"x"}""", 0, "'__metadata__'", "'x'", "object");
        yield return Fault("a tensor that is a number", """{"q":7}""", 0, "tensor 'q'", "'7'", "object");
        yield return Fault("no dtype", """{"q":{"shape":[2],"data_offsets":[0,8]}}""", 8, "tensor 'q'", "no dtype");
        yield return Fault("no shape", """{"q":{"dtype":"F32","data_offsets":[0,8]}}""", 8, "tensor 'q'", "no shape");
        yield return Fault("no offsets", """{"q":{"dtype":"F32","shape":[2]}}""", 8, "tensor 'q'", "no data_offsets");
        yield return Fault("a dtype twice", """{"q":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""",
            8, "dtype of tensor 'q'", "twice");
        yield return Fault("a shape twice", """{"q":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "twice");
        yield return Fault("an unknown property", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":0}}""",
            8, "tensor 'q'", "'x'", "dtype, shape, data_offsets");
        yield return Fault("an unknown dtype", """{"q":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}""",
            8, "dtype of tensor 'q'", "'I64'", "F64, F32, F16, BF16, I32");
        yield return Fault("a dtype in small letters", """{"q":{"dtype":"f32","shape":[2],"data_offsets":[0,8]}}""",
            8, "dtype of tensor 'q'", "'f32'");
        yield return Fault("a dtype that is a number", """{"q":{"dtype":32,"shape":[2],"data_offsets":[0,8]}}""",
            8, "dtype of tensor 'q'", "'32'");
        yield return Fault("a negative size", """{"q":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "'-2'", "at least 1");
        yield return Fault("a size of 0", """{"q":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]}}""",
            0, "shape of tensor 'q'", "'0'", "at least 1");
        yield return Fault("a broken size", """{"q":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "'2.5'", "integers");
        yield return Fault("a size that is text", """{"q":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "'2'", "integers");
        yield return Fault("a size beyond 64 bits", """{"q":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "18446744073709551616");
        yield return Fault("a product beyond 64 bits", """{"q":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}""",
            0, "shape of tensor 'q'", "4294967296", "elements");
        yield return Fault("a product that wraps to the right size",
            """{"q":{"dtype":"F32","shape":[9223372036854775807,2],"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "elements");
        yield return Fault("no dimension", """{"q":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}""",
            4, "shape of tensor 'q'", "[]", "at least one dimension");
        yield return Fault("many dimensions", """{"q":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}""",
            4, "shape of tensor 'q'", "more than 8");
        yield return Fault("a shape that is a number", """{"q":{"dtype":"F32","shape":2,"data_offsets":[0,8]}}""",
            8, "shape of tensor 'q'", "'2'", "array");
        yield return Fault("one offset", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""",
            8, "data_offsets of tensor 'q'", "1 numbers", "two");
        yield return Fault("three offsets", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[0,8,16]}}""",
            8, "data_offsets of tensor 'q'", "more than 2");
        yield return Fault("a negative offset", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""",
            8, "data_offsets of tensor 'q'", "'-8'");
        yield return Fault("an offset in exponents", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[0,8e0]}}""",
            8, "data_offsets of tensor 'q'", "'8e0'");
        yield return Fault("offsets in reverse", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""",
            8, "data_offsets of tensor 'q'", "[8, 0]", "8 bytes");
        yield return Fault("a size that disagrees", """{"q":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""",
            8, "data_offsets of tensor 'q'", "8 bytes", "12 bytes");
        yield return Fault("data past the end", $$"""{"q":{{Tensor}}}""", 4, "data_offsets of tensor 'q'", "[0, 8]", "at most 4");
        yield return Fault("data far past the end", """{"q":{"dtype":"F32","shape":[500000000],"data_offsets":[0,2000000000]}}""",
            8, "data_offsets of tensor 'q'", "at most 8");
        yield return Fault("data that do not begin at 0", """{"q":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""",
            12, "data_offsets of tensor 'q'", "[4, 12]", "a begin of 0");
        yield return Fault("bytes at the end", $$"""{"q":{{Tensor}}}""", 11, "data", "3 lie after tensor 'q'", "8 bytes");
        yield return Fault("bytes without a tensor", "{}", 5, "data", "5 lie after the header", "0 bytes");
        yield return Fault("an overlap", $$$"""{"q":{{{Tensor}}},"k":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""",
            12, "data_offsets of tensor 'k'", "overlaps tensor 'q'");
        yield return Fault("the same data twice", $$"""{"q":{{Tensor}},"k":{{Tensor}}}""", 8, "data_offsets of tensor", "overlaps");
        yield return Fault("a gap", $$$"""{"q":{{{Tensor}}},"k":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}""",
            20, "data_offsets of tensor 'k'", "gap after tensor 'q'", "a begin of 8");
        yield return Fault("a name with a line break", """{"a\nb":7}""", 0, @"tensor 'a\u000ab'", "'7'");
    }

    [TestCaseSource(nameof(Headers))]
    public void A_bad_header_is_refused_with_key_value_and_what_is_allowed(string json, int data, string[] fragments)
    {
        string message = Refusal(File(Encoding.UTF8.GetBytes(json), data));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(message, Does.StartWith("x.safetensors: "));
            Assert.That(message, Does.Contain("found "));
            Assert.That(message, Does.Contain("allowed: "));
            Assert.That(message, Does.Not.Contain("\n"));
            foreach (string fragment in fragments)
            {
                Assert.That(message, Does.Contain(fragment));
            }
        }
    }

    [TestCase(0, "0 bytes")]
    [TestCase(7, "7 bytes")]
    public void A_file_without_room_for_the_header_length_is_refused(int length, string found)
    {
        Assert.That(Refusal(new byte[length]), Does.Contain("header length").And.Contain(found).And.Contain("at least 8"));
    }

    [TestCase(9UL)]
    [TestCase(100_000_001UL)]
    [TestCase(0x7fff_ffff_ffff_ffffUL)]
    [TestCase(ulong.MaxValue)]
    public void A_header_length_beyond_the_file_is_refused(ulong length)
    {
        byte[] file = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(file, length);
        Assert.That(Refusal(file), Does.Contain($"header length: found {length}; allowed: at most 8"));
    }

    [Test]
    public void Bytes_that_are_not_utf8_are_refused()
    {
        byte[] json = [.. "{\"q"u8, 0xff, 0xfe, .. "\":1}"u8];
        Assert.That(Refusal(File(json, 0)), Does.Contain("header").And.Contain("UTF-8"));
    }

    [Test]
    public void A_long_name_is_cut_in_the_message()
    {
        string message = Refusal(File(Encoding.UTF8.GetBytes($"{{\"{new string('x', 100_000)}\":7}}"), 0));
        Assert.That(message, Has.Length.LessThan(400).And.Contain("(100000 characters)"));
    }

    [Test]
    public void Spaces_after_the_header_are_padding()
    {
        SafeTensorsFile file = Read(File(Encoding.UTF8.GetBytes($$"""{"q":{{Tensor}}}       """), 8));
        Assert.That(file.Tensors["q"].Shape, Is.EqualTo(new[] { 2 }));
    }

    [Test]
    public void Tensors_may_stand_in_any_order_in_the_header()
    {
        const string Json = """
            {"b":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},
             "a":{"dtype":"F64","shape":[1,1],"data_offsets":[0,8]}}
            """;
        byte[] bytes = File(Encoding.UTF8.GetBytes(Json), 12);
        BinaryPrimitives.WriteDoubleLittleEndian(bytes.AsSpan(bytes.Length - 12), 2.5);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(bytes.Length - 4), -7);
        SafeTensorsFile file = Read(bytes);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(file.Tensors["a"].Values, Is.EqualTo(new[] { 2.5 }));
            Assert.That(file.Tensors["b"].Values, Is.EqualTo(new[] { -7 }));
        }
    }

    [Test]
    public void A_missing_file_and_a_directory_are_refused()
    {
        using ScratchFolder folder = new();
        using (Assert.EnterMultipleScope())
        {
            Assert.That(
                () => SafeTensorsReader.Read(folder["none"]), Throws.TypeOf<CaseException>().With.Message.Contain("cannot be read"));
            Assert.That(
                () => SafeTensorsReader.Read(folder["."]), Throws.TypeOf<CaseException>().With.Message.Contain("a directory"));
            Assert.That(() => SafeTensorsReader.Read(""), Throws.TypeOf<CaseException>());
            Assert.That(() => SafeTensorsReader.Read("a\0b"), Throws.TypeOf<CaseException>());
        }
    }

    /// <summary>A file of a header and so many bytes of data.</summary>
    private static byte[] File(byte[] json, int data)
    {
        byte[] file = new byte[8 + json.Length + data];
        BinaryPrimitives.WriteInt64LittleEndian(file, json.Length);
        json.CopyTo(file, 8);
        return file;
    }

    private static SafeTensorsFile Read(byte[] file)
    {
        using MemoryStream stream = new(file);
        return SafeTensorsReader.Read(stream, "x.safetensors");
    }

    private static string Refusal(byte[] file) =>
        Assert.Throws<CaseException>(() => Read(file))!.Message;
}
