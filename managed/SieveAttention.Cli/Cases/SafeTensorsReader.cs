using System.Buffers.Binary;

namespace SieveAttention.Cli.Cases;

/// <summary>
/// Reads safetensors files: 8-byte little-endian header length, JSON header, raw little-endian data. Everything is checked
/// against the length of the file before memory is taken for it.
/// </summary>
internal static class SafeTensorsReader
{
    private const int LengthBytes = 8;
    private const int ChunkElements = 1 << 24;

    /// <summary>The longest header that is read: the limit of the format's first implementation.</summary>
    private const long LongestHeader = 100_000_000;

    /// <summary>Reads a whole file.</summary>
    /// <exception cref="CaseException">The file cannot be read or is not a safetensors file.</exception>
    public static SafeTensorsFile Read(string path)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw CaseException.At(path, "file", "a directory", "a safetensors file");
            }
            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            return Read(stream, path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw CaseException.Unreadable(path, error);
        }
    }

    /// <summary>Reads a stream from its current position, 0, to its end.</summary>
    /// <param name="stream">A stream that knows its length.</param>
    /// <param name="name">What messages call it.</param>
    /// <exception cref="CaseException">The content is not a safetensors file.</exception>
    public static SafeTensorsFile Read(Stream stream, string name)
    {
        if (!stream.CanSeek)
        {
            throw CaseException.At(name, "file", "a pipe or device", "a regular file");
        }
        long fileLength = stream.Length;
        if (fileLength < LengthBytes)
        {
            throw CaseException.At(name, "header length", $"a file of {fileLength} bytes", "at least 8 bytes");
        }
        Span<byte> lengthBytes = stackalloc byte[LengthBytes];
        stream.ReadExactly(lengthBytes);
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(lengthBytes);
        long most = Math.Min(LongestHeader, fileLength - LengthBytes);
        if (headerLength > (ulong)most)
        {
            throw CaseException.At(name, "header length", $"{headerLength}", $"at most {most} in this file of {fileLength} bytes");
        }
        byte[] json = new byte[headerLength];
        stream.ReadExactly(json);
        SafeTensorsHeader header = SafeTensorsHeader.Parse(name, json, fileLength - LengthBytes - (long)headerLength);

        Dictionary<string, StoredTensor> tensors = new(StringComparer.Ordinal);
        foreach (SafeTensorsHeader.Entry entry in header.Entries)
        {
            StoredTensor tensor = new(entry.Name, entry.Shape, StoredTensor.AllocateValues(entry.Type, entry.Count));
            for (int first = 0; first < entry.Count; first += ChunkElements)
            {
                stream.ReadExactly(tensor.Bytes(first, Math.Min(ChunkElements, entry.Count - first)));
            }
            tensors.Add(entry.Name, tensor);
        }
        return new SafeTensorsFile(name, header.Metadata, tensors);
    }
}
