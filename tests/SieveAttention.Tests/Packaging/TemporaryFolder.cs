namespace SieveAttention.Tests.Packaging;

/// <summary>A new, empty folder outside the source tree, removed with everything in it on disposal.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("sieve-packaging-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
