using System.Text;
using System.Text.Json;
using System.Text.Unicode;

namespace SieveAttention.Cli.Cases;

/// <summary>
/// The JSON header of a safetensors file. What it accepts is exactly what the format allows and a case can hold; the first
/// departure is a <see cref="CaseException"/> that names the key.
/// </summary>
internal sealed class SafeTensorsHeader
{
    private const string MetadataKey = "__metadata__";
    private const int MostDimensions = 8;

    private readonly string _file;
    private readonly Dictionary<string, string> _metadata = new(StringComparer.Ordinal);
    private readonly Dictionary<string, Entry> _entries = new(StringComparer.Ordinal);

    private SafeTensorsHeader(string file)
    {
        _file = file;
    }

    /// <summary>One tensor of the header; its data are the bytes from <c>Begin</c> to before <c>End</c> of the data section.</summary>
    public sealed record Entry(string Name, TensorType Type, int[] Shape, int Count, long Begin, long End);

    /// <summary>Free text by key.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    /// <summary>Tensors in the order of their data, which they cover without gap or overlap.</summary>
    public IReadOnlyList<Entry> Entries { get; private set; } = [];

    /// <summary>Parses a header.</summary>
    /// <param name="file">Name of the file, for messages.</param>
    /// <param name="json">The header, without the length before it.</param>
    /// <param name="dataLength">Bytes of the file after the header.</param>
    /// <exception cref="CaseException">The header is not well-formed or does not describe the data.</exception>
    public static SafeTensorsHeader Parse(string file, ReadOnlySpan<byte> json, long dataLength)
    {
        SafeTensorsHeader header = new(file);
        if (!Utf8.IsValid(json))
        {
            throw CaseException.At(file, "header", "bytes that are not UTF-8", "UTF-8 text");
        }
        if (json.IsEmpty || json[0] != (byte)'{')
        {
            string found = json.IsEmpty ? "an empty header" : $"a header that begins with {Text.Quote(((char)json[0]).ToString())}";
            throw CaseException.At(file, "header", found, "a JSON object, which begins with '{'");
        }
        Utf8JsonReader reader = new(json, new JsonReaderOptions { MaxDepth = 8 });
        try
        {
            header.ParseObject(ref reader);
            if (reader.Read())
            {
                throw CaseException.At(file, "header", "something after the JSON object", "only spaces there");
            }
        }
        catch (JsonException error)
        {
            throw CaseException.At(file, "header", $"what is not JSON ({Text.OneLine(error.Message)})", "a JSON object");
        }
        catch (InvalidOperationException error) when (error is not ObjectDisposedException)
        {
            // The reader says so of text that decodes to half a surrogate pair.
            throw CaseException.At(file, "header", "text with an escape that is no character", "Unicode text");
        }
        header.CheckLayout(dataLength);
        return header;
    }

    private void ParseObject(ref Utf8JsonReader reader)
    {
        reader.Read();
        bool metadataSeen = false;
        while (ReadKey(ref reader, out string key))
        {
            if (key == MetadataKey)
            {
                if (metadataSeen)
                {
                    throw Duplicate(Text.Quote(key));
                }
                metadataSeen = true;
                ParseMetadata(ref reader);
            }
            else if (!_entries.TryAdd(key, ParseEntry(ref reader, key)))
            {
                throw Duplicate(Text.Quote(key));
            }
        }
    }

    private void ParseMetadata(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw CaseException.At(_file, Text.Quote(MetadataKey), Token(ref reader), "an object of strings");
        }
        while (ReadKey(ref reader, out string key))
        {
            if (reader.TokenType != JsonTokenType.String)
            {
                throw CaseException.At(_file, $"metadata {Text.Quote(key)}", Token(ref reader), "a string (also for numbers)");
            }
            if (!_metadata.TryAdd(key, reader.GetString()!))
            {
                throw Duplicate($"metadata {Text.Quote(key)}");
            }
        }
    }

    private Entry ParseEntry(ref Utf8JsonReader reader, string name)
    {
        string key = $"tensor {Text.Quote(name)}";
        if (reader.TokenType != JsonTokenType.StartObject)
        {
            throw CaseException.At(_file, key, Token(ref reader), "an object with dtype, shape and data_offsets");
        }
        TensorType? type = null;
        List<long>? shape = null;
        List<long>? offsets = null;
        while (ReadKey(ref reader, out string property))
        {
            switch (property)
            {
                case "dtype" when type is null:
                    type = ParseType(ref reader, key);
                    break;
                case "shape" when shape is null:
                    shape = ParseIntegers(ref reader, $"shape of {key}", MostDimensions, 1, "at least 1");
                    break;
                case "data_offsets" when offsets is null:
                    offsets = ParseIntegers(ref reader, $"data_offsets of {key}", 2, 0, "at least 0");
                    break;
                case "dtype" or "shape" or "data_offsets":
                    throw Duplicate($"{property} of {key}");
                default:
                    throw CaseException.At(_file, key, $"the property {Text.Quote(property)}", "dtype, shape, data_offsets");
            }
        }
        string? missing = type is null ? "dtype" : shape is null ? "shape" : offsets is null ? "data_offsets" : null;
        if (missing is not null)
        {
            throw CaseException.At(_file, key, $"no {missing}", "dtype, shape and data_offsets, each once");
        }
        return MakeEntry(name, key, type!.Value, shape!, offsets!);
    }

    private TensorType ParseType(ref Utf8JsonReader reader, string key)
    {
        bool known = StoredTypes.TryParse(reader.TokenType == JsonTokenType.String ? reader.GetString()! : "", out TensorType type);
        return known ? type : throw CaseException.At(_file, $"dtype of {key}", Token(ref reader), StoredTypes.Names);
    }

    private List<long> ParseIntegers(ref Utf8JsonReader reader, string key, int most, long least, string limit)
    {
        if (reader.TokenType != JsonTokenType.StartArray)
        {
            throw CaseException.At(_file, key, Token(ref reader), $"an array of integers, each {limit}");
        }
        List<long> values = [];
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out long value) || value < least)
            {
                throw CaseException.At(_file, key, Token(ref reader), $"integers, each {limit}, below 2^63");
            }
            if (values.Count == most)
            {
                throw CaseException.At(_file, key, $"more than {most} numbers", $"at most {most}");
            }
            values.Add(value);
        }
        return values;
    }

    private Entry MakeEntry(string name, string key, TensorType type, List<long> shape, List<long> offsets)
    {
        if (shape.Count == 0)
        {
            throw CaseException.At(_file, $"shape of {key}", "[]", "at least one dimension (a scalar is [1])");
        }
        if (offsets.Count != 2)
        {
            throw CaseException.At(_file, $"data_offsets of {key}", $"{offsets.Count} numbers", "two, begin and end");
        }
        string shapeText = $"[{string.Join(", ", shape)}]";
        Int128 count = 1;
        foreach (long size in shape)
        {
            count *= size;
            if (count > Array.MaxLength)
            {
                throw CaseException.At(_file, $"shape of {key}", $"{shapeText}", $"at most {Array.MaxLength} elements");
            }
        }
        Int128 length = (Int128)offsets[1] - offsets[0];
        Int128 needed = count * StoredTypes.Size(type);
        if (length != needed)
        {
            throw CaseException.At(
                _file,
                $"data_offsets of {key}",
                $"[{offsets[0]}, {offsets[1]}], that is {length} bytes",
                $"{needed} bytes for shape {shapeText} of {StoredTypes.Name(type)}");
        }
        return new Entry(name, type, [.. shape.Select(size => (int)size)], (int)count, offsets[0], offsets[1]);
    }

    private void CheckLayout(long dataLength)
    {
        long position = 0;
        string previous = "the header";
        List<Entry> ordered = [.. _entries.Values.OrderBy(entry => entry.Begin)];
        foreach (Entry entry in ordered)
        {
            string key = $"data_offsets of tensor {Text.Quote(entry.Name)}";
            string found = $"[{entry.Begin}, {entry.End}]";
            if (entry.End > dataLength)
            {
                throw CaseException.At(_file, key, found, $"at most {dataLength}, the bytes after the header");
            }
            if (entry.Begin != position)
            {
                string fault = entry.Begin < position ? "overlaps" : "leaves a gap after";
                throw CaseException.At(_file, key, $"{found}, which {fault} {previous}", $"a begin of {position}");
            }
            position = entry.End;
            previous = $"tensor {Text.Quote(entry.Name)}";
        }
        if (position != dataLength)
        {
            throw CaseException.At(
                _file, "data", $"{dataLength} bytes, of which {dataLength - position} lie after {previous}", $"{position} bytes");
        }
        Entries = ordered;
    }

    /// <summary>Advances to the next property of the current object and to its value; false at the end of the object.</summary>
    private static bool ReadKey(ref Utf8JsonReader reader, out string key)
    {
        reader.Read();
        key = "";
        if (reader.TokenType == JsonTokenType.EndObject)
        {
            return false;
        }
        key = reader.GetString()!;
        reader.Read();
        return true;
    }

    private static string Token(ref Utf8JsonReader reader) => reader.TokenType switch
    {
        JsonTokenType.StartObject => "an object",
        JsonTokenType.StartArray => "an array",
        JsonTokenType.String => $"the string {Text.Quote(reader.GetString()!)}",
        _ => Text.Quote(Encoding.UTF8.GetString(reader.ValueSpan)),
    };

    private CaseException Duplicate(string key) => CaseException.At(_file, key, "it twice", "each key once");
}
