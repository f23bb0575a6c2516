using System.IO.Compression;
using System.Xml.Linq;
using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

[Category("Packaging")]
public sealed class PackageContentTests
{
    private static readonly string[] s_managedFiles =
    [
        "README.md",
        "SieveAttention.nuspec",
        "lib/net10.0/SieveAttention.dll",
        "lib/net10.0/SieveAttention.xml",
    ];

    private static readonly string[] s_nativeFiles =
    [
        "LICENSE",
        "README.md",
        "SieveAttention.Native.linux-x64.nuspec",
        "THIRD-PARTY-NOTICES.txt",
        "lib/netstandard2.0/_._",
        "runtimes/linux-x64/native/libsieve_attention.so",
    ];

    private static readonly string[] s_dependencies = ["Microsoft.Extensions.Logging.Abstractions", "System.Numerics.Tensors"];

    /// <summary>What every glibc system has; its driver is looked up at run time.</summary>
    private static readonly string[] s_systemLibraries =
        ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"];

    [Test]
    public void The_managed_package_holds_the_assembly_its_documentation_and_the_readme()
    {
        using ZipArchive package = Open("SieveAttention");

        Assert.That(Entries(package), Is.EquivalentTo(s_managedFiles));
    }

    [Test]
    public void The_managed_package_names_its_licence_its_readme_and_no_more_than_two_dependencies()
    {
        using ZipArchive package = Open("SieveAttention");
        XElement metadata = Metadata(package, "SieveAttention.nuspec");

        Assert.That(Value(metadata, "license"), Is.EqualTo("MIT"));
        Assert.That(Value(metadata, "readme"), Is.EqualTo("README.md"));
        Assert.That(
            metadata.Descendants().Where(e => e.Name.LocalName == "dependency").Select(e => (string?)e.Attribute("id")),
            Is.EquivalentTo(s_dependencies));
    }

    [Test]
    public void The_symbol_package_holds_the_debug_information_of_the_assembly()
    {
        using ZipArchive package = Open("SieveAttention", "snupkg");

        Assert.That(Entries(package), Does.Contain("lib/net10.0/SieveAttention.pdb"));
    }

    [Test]
    public void The_native_package_holds_the_library_and_no_assembly()
    {
        using ZipArchive package = Open("SieveAttention.Native.linux-x64");

        Assert.That(Entries(package), Is.EquivalentTo(s_nativeFiles));
    }

    [Test]
    public void The_native_package_names_its_licence_and_depends_on_nothing()
    {
        using ZipArchive package = Open("SieveAttention.Native.linux-x64");
        XElement metadata = Metadata(package, "SieveAttention.Native.linux-x64.nuspec");

        Assert.That(Value(metadata, "license"), Is.EqualTo("MIT"));
        Assert.That(Value(metadata, "readme"), Is.EqualTo("README.md"));
        Assert.That(metadata.Descendants().Where(e => e.Name.LocalName == "dependency"), Is.Empty);
    }

    [Test]
    public async Task The_packed_library_needs_neither_the_driver_nor_a_CUDA_or_CPP_runtime()
    {
        using TemporaryFolder folder = new();
        string library = Path.Combine(folder.Path, "libsieve_attention.so");
        using (ZipArchive package = Open("SieveAttention.Native.linux-x64"))
        {
            package.GetEntry("runtimes/linux-x64/native/libsieve_attention.so")!.ExtractToFile(library);
        }

        ExternalProgram.Result dynamic = await ExternalProgram.RunAsync("readelf", ["--dynamic", "--wide", library]);
        string[] lines = dynamic.Output.Split('\n');

        Assert.That(dynamic.ExitCode, Is.Zero, dynamic.Output);
        Assert.That(
            lines.Where(line => line.Contains("(NEEDED)", StringComparison.Ordinal)).Select(Bracketed),
            Is.Not.Empty.And.SubsetOf(s_systemLibraries));
        Assert.That(
            lines.Where(line => line.Contains("(SONAME)", StringComparison.Ordinal)).Select(Bracketed).Single(),
            Is.EqualTo("libsieve_attention.so"));
        Assert.That(
            lines.Where(line => line.Contains("(RPATH)", StringComparison.Ordinal) || line.Contains("(RUNPATH)", StringComparison.Ordinal)),
            Is.Empty.Or.All.Contains("[$ORIGIN]"),
            "The library looks for others in a folder of the machine that built it.");
    }

    private static ZipArchive Open(string id, string extension = "nupkg") => ZipFile.OpenRead(SourceTree.Package(id, extension));

    /// <summary>The files of a package without those that every package has.</summary>
    private static IEnumerable<string> Entries(ZipArchive package) => package.Entries
        .Select(entry => entry.FullName)
        .Where(name => name is not ("[Content_Types].xml" or "_rels/.rels" or ".signature.p7s"))
        .Where(name => !name.StartsWith("package/services/metadata/core-properties/", StringComparison.Ordinal));

    private static XElement Metadata(ZipArchive package, string name)
    {
        using Stream stream = package.GetEntry(name)!.Open();
        return XDocument.Load(stream).Root!.Elements().Single(e => e.Name.LocalName == "metadata");
    }

    private static string? Value(XElement metadata, string name) =>
        metadata.Elements().SingleOrDefault(e => e.Name.LocalName == name)?.Value;

    private static string Bracketed(string line) => line[(line.IndexOf('[', StringComparison.Ordinal) + 1)..line.IndexOf(']', StringComparison.Ordinal)];
}
