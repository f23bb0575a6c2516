namespace SieveAttention.Tests.Cli;

/// <summary>An empty folder for the files of one test, deleted after it.</summary>
internal sealed class ScratchFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("sieve-cli-");

    /// <summary>Names of all files in it.</summary>
    public IEnumerable<string> FileNames => _folder.EnumerateFiles().Select(file => file.Name).Order(StringComparer.Ordinal);

    /// <summary>A path in it.</summary>
    public string this[string name] => Path.Combine(_folder.FullName, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
