using System.Buffers;
using System.Buffers.Binary;
using System.Text.Json;
using SieveAttention.Cli.Output;

namespace SieveAttention.Cli.Cases;

/// <summary>
/// Writes safetensors files. The same content always gives the same bytes: metadata in order of the keys, tensors from wide
/// to narrow elements and then by name (so that each stays aligned), header padded with spaces to a multiple of 8.
/// </summary>
internal static class SafeTensorsWriter
{
    private const int Alignment = 8;
    private const int ChunkElements = 1 << 24;

    /// <summary>Writes a file; where writing fails, what stood at the path before is still there.</summary>
    /// <exception cref="IOException">The file cannot be written.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder does not allow it.</exception>
    public static void Write(string path, IReadOnlyDictionary<string, string> metadata, IEnumerable<StoredTensor> tensors) =>
        AtomicFile.Write(path, stream => Write(stream, metadata, tensors));

    /// <summary>Writes the content of a file to a stream.</summary>
    public static void Write(Stream stream, IReadOnlyDictionary<string, string> metadata, IEnumerable<StoredTensor> tensors)
    {
        List<StoredTensor> ordered = [.. tensors
            .OrderByDescending(tensor => StoredTypes.Size(tensor.Type))
            .ThenBy(tensor => tensor.Name, StringComparer.Ordinal)];
        ArrayBufferWriter<byte> header = new();
        WriteHeader(header, metadata, ordered);
        int padding = (Alignment - (header.WrittenCount % Alignment)) % Alignment;
        header.Write("       "u8[..padding]);

        Span<byte> length = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)header.WrittenCount);
        stream.Write(length);
        stream.Write(header.WrittenSpan);
        foreach (StoredTensor tensor in ordered)
        {
            for (int first = 0; first < tensor.Count; first += ChunkElements)
            {
                stream.Write(tensor.Bytes(first, Math.Min(ChunkElements, tensor.Count - first)));
            }
        }
    }

    private static void WriteHeader(
        ArrayBufferWriter<byte> target, IReadOnlyDictionary<string, string> metadata, List<StoredTensor> tensors)
    {
        using Utf8JsonWriter json = new(target);
        json.WriteStartObject();
        if (metadata.Count > 0)
        {
            json.WriteStartObject("__metadata__");
            foreach ((string key, string value) in metadata.OrderBy(entry => entry.Key, StringComparer.Ordinal))
            {
                json.WriteString(key, value);
            }
            json.WriteEndObject();
        }
        long position = 0;
        foreach (StoredTensor tensor in tensors)
        {
            long end = position + ((long)tensor.Count * StoredTypes.Size(tensor.Type));
            json.WriteStartObject(tensor.Name);
            json.WriteString("dtype", StoredTypes.Name(tensor.Type));
            json.WriteStartArray("shape");
            foreach (int size in tensor.Shape)
            {
                json.WriteNumberValue(size);
            }
            json.WriteEndArray();
            json.WriteStartArray("data_offsets");
            json.WriteNumberValue(position);
            json.WriteNumberValue(end);
            json.WriteEndArray();
            json.WriteEndObject();
            position = end;
        }
        json.WriteEndObject();
    }
}
