namespace SieveAttention.Cli.Output;

/// <summary>Files that appear whole or not at all: written beside their place under another name, then moved there.</summary>
internal static class AtomicFile
{
    /// <summary>Writes a file, replacing one that is there.</summary>
    /// <exception cref="IOException">The file cannot be written; nothing was changed.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder does not allow it; nothing was changed.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string target = Path.GetFullPath(path);
        string temporary = $"{target}.{Environment.ProcessId}-{Guid.NewGuid():N}.tmp";
        try
        {
            using (FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                write(stream);
            }
            File.Move(temporary, target, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }
}
