using System.Text;
using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Output;

namespace SieveAttention.Tests.Cli;

public sealed class SafeTensorsWriterTests
{
    [Test]
    public void The_bytes_are_those_of_the_format()
    {
        using MemoryStream stream = new();
        SafeTensorsWriter.Write(
            stream,
            new Dictionary<string, string> { ["op"] = "tda", ["format"] = "sieve-result/1" },
            [new StoredTensor("n", [1, 2], new[] { 1, -2 }), new StoredTensor("x", [1], new[] { 1.0 })]);
        const string Json =
            """{"__metadata__":{"format":"sieve-result/1","op":"tda"},"""
            + "\"x\":" + """{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"""
            + "\"n\":" + """{"dtype":"I32","shape":[1,2],"data_offsets":[8,16]}}""";
        byte[] header = Encoding.ASCII.GetBytes(Json.PadRight((Json.Length + 7) / 8 * 8));
        byte[] data = [0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff];
        Assert.That(stream.ToArray(), Is.EqualTo((byte[])[.. BitConverter.GetBytes((ulong)header.Length), .. header, .. data]));
    }

    [Test]
    public void A_golden_case_keeps_its_values_through_the_writer()
    {
        using ScratchFolder folder = new();
        SafeTensorsFile golden = SafeTensorsReader.Read(TestData.Golden("tda-causal"));
        SafeTensorsWriter.Write(folder["copy"], golden.Metadata, golden.Tensors.Values);
        SafeTensorsFile copy = SafeTensorsReader.Read(folder["copy"]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(copy.Metadata, Is.EquivalentTo(golden.Metadata));
            Assert.That(copy.Tensors["dout"].Values, Is.EqualTo(golden.Tensors["dout"].Values));
            Assert.That(folder.FileNames, Is.EqualTo(new[] { "copy" }));
        }
    }

    [Test]
    public void A_failure_while_writing_leaves_what_was_there()
    {
        using ScratchFolder folder = new();
        File.WriteAllText(folder["target"], "before");
        Assert.That(
            () => AtomicFile.Write(folder["target"], stream =>
            {
                stream.Write("half"u8);
                throw new IOException("disk full");
            }),
            Throws.TypeOf<IOException>());
        using (Assert.EnterMultipleScope())
        {
            Assert.That(File.ReadAllText(folder["target"]), Is.EqualTo("before"));
            Assert.That(folder.FileNames, Is.EqualTo(new[] { "target" }));
        }
    }
}
