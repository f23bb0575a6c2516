using System.Runtime.InteropServices;
using NUnit.Framework;
using SieveAttention.Interop;

namespace SieveAttention.Tests.Interop;

/// <summary>The search for the native library, on made-up candidates: the library of this process is not touched.</summary>
internal sealed class NativeLibraryProbeTests
{
    private string _folder = "";

    [OneTimeSetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("sieve-probe-").FullName;

    [OneTimeTearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public void A_missing_library_is_reported_with_every_path_tried_and_what_to_do()
    {
        NativeLibraryProbe probe = new([Missing("first"), Missing("second")], expectedAbi: 1);
        Assert.Multiple(() =>
        {
            Assert.That(probe.Load(), Is.EqualTo((nint)0));
            Assert.That(probe.Failure, Does.Contain(Path.Combine(_folder, "first")).And.Contain(Path.Combine(_folder, "second")));
            Assert.That(probe.Failure, Does.Contain("no such file"));
            Assert.That(probe.Failure, Does.Contain($"SieveAttention.Native.{NativeLoader.Rid}").And.Contain("SIEVE_NATIVE_PATH"));
            Assert.That(probe.Failure, Does.Contain("'cpu' and 'reference' work without it"));
            Assert.That(probe.Attempts, Has.Count.EqualTo(2));
            Assert.That(probe.Loaded, Is.Null);
        });
    }

    [Test]
    public void A_path_that_somebody_asked_for_is_not_replaced_by_another_library()
    {
        bool triedNext = false;
        LibraryCandidate next = new("next", "next", () =>
        {
            triedNext = true;
            return 0;
        });
        NativeLibraryProbe probe = new([Missing("wanted") with { Required = true }, next], expectedAbi: 1);
        Assert.That(probe.Load(), Is.EqualTo((nint)0));
        Assert.That(triedNext, Is.False);
        Assert.That(probe.Failure, Does.Contain("wanted").And.Not.Contain("next"));
    }

    [Test]
    public void A_file_that_is_no_library_is_reported_as_such()
    {
        string path = Path.Combine(_folder, "text.so");
        File.WriteAllText(path, "this is not a library");
        NativeLibraryProbe probe = new(NativeLoader.Candidates(path, null, _folder), expectedAbi: 1);
        Assert.That(probe.Load(), Is.EqualTo((nint)0));
        Assert.That(probe.Attempts, Has.Count.EqualTo(1));
        Assert.That(probe.Attempts[0].Source, Is.EqualTo("path set in code"));
        Assert.That(probe.Attempts[0].Outcome, Is.Not.EqualTo("no such file").And.Not.Empty);
    }

    [Test]
    public void Another_library_is_told_apart()
    {
        // Every process has the C library; it loads, but is not ours.
        string name = OperatingSystem.IsWindows() ? "kernel32.dll" : OperatingSystem.IsMacOS() ? "libSystem.dylib" : "libc.so.6";
        NativeLibraryProbe probe = new([new LibraryCandidate("test", name, () => NativeLibrary.Load(name))], expectedAbi: 1);
        Assert.That(probe.Load(), Is.EqualTo((nint)0));
        Assert.That(probe.Failure, Does.Contain(name).And.Contain("exports no sieve_abi_version"));
    }

    [Test]
    public void A_library_of_another_version_is_refused_naming_both_versions()
    {
        string path = BuiltLibrary();
        LibraryCandidate candidate = new("test", path, () => NativeLibrary.Load(path));
        NativeLibraryProbe probe = new([candidate], expectedAbi: 4711);
        Assert.That(probe.Load(), Is.EqualTo((nint)0));
        Assert.That(probe.Failure, Does.Contain($"has ABI version {(int)SieveAbi.Version}").And.Contain("needs version 4711"));
    }

    [Test]
    public void A_library_of_the_right_version_is_loaded()
    {
        string path = BuiltLibrary();
        NativeLibraryProbe probe = new(NativeLoader.Candidates(null, path, _folder), (uint)SieveAbi.Version);
        nint module = probe.Load();
        Assert.That(probe.Failure, Is.Null);
        Assert.That(module, Is.Not.EqualTo((nint)0));
        Assert.That(probe.Loaded!.ToString(), Is.EqualTo($"{path} (SIEVE_NATIVE_PATH): loaded"));
        NativeLibrary.Free(module);
    }

    [Test]
    public void Places_are_searched_in_the_documented_order()
    {
        IReadOnlyList<LibraryCandidate> candidates = NativeLoader.Candidates("/a/lib.so", _folder, "/app");
        Assert.That(
            candidates.Select(candidate => candidate.Source),
            Is.EqualTo(new[] { "path set in code", "SIEVE_NATIVE_PATH", "search of the runtime", "package layout" }));
        Assert.That(candidates.Select(candidate => candidate.Required), Is.EqualTo(new[] { true, true, false, false }));
        Assert.That(Path.GetDirectoryName(candidates[1].Path), Is.EqualTo(_folder), "a folder stands for the library in it");
        Assert.That(candidates[3].Path, Does.Contain(Path.Combine("runtimes", NativeLoader.Rid, "native")));
    }

    [Test]
    public void The_path_cannot_change_once_the_library_has_been_looked_for()
    {
        NativeLoader.TryEnsureLoaded(out _);
        Assert.That(
            () => SieveDiagnostics.NativeLibraryPath = "/elsewhere.so",
            Throws.InvalidOperationException.With.Message.Contains("/elsewhere.so").And.Message.Contains("used already"));
        Assert.That(SieveDiagnostics.ProbedPaths, Is.Not.Empty);
    }

    private LibraryCandidate Missing(string name)
    {
        string path = Path.Combine(_folder, name);
        return new LibraryCandidate("test", path, () => throw new FileNotFoundException("no such file"));
    }

    private static string BuiltLibrary()
    {
        foreach (string name in new[] { "libsieve_attention.so", "sieve_attention.dll" })
        {
            string path = Path.Combine(AppContext.BaseDirectory, name);
            if (File.Exists(path))
            {
                return path;
            }
        }

        if (Environment.GetEnvironmentVariable(NativeLoader.PathVariable) is { Length: > 0 } set && File.Exists(set))
        {
            return set;
        }

        Assert.Ignore("The native library has not been built.");
        return "";
    }
}
