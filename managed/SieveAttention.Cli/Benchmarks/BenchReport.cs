using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using SieveAttention.Cli.Cases;
using SieveAttention.Cli.Output;

namespace SieveAttention.Cli.Benchmarks;

/// <summary>Writes what was measured, as a table or as one JSON object.</summary>
internal sealed class BenchReport(AttentionDevice device, string? cudaAbsence, BenchCeilings ceilings, IReadOnlyList<BenchRow> rows)
{
    /// <summary>Value of the key <c>format</c>.</summary>
    public const string Format = "sieve-bench/1";

    /// <summary>Writes the table.</summary>
    public void WriteTable(TextWriter writer)
    {
        writer.WriteLine(device.Describe());
        if (cudaAbsence is not null)
        {
            writer.WriteLine($"cuda: absent: {Text.OneLine(cudaAbsence)}");
        }
        writer.WriteLine(
            $"ceilings: copy {Rate(ceilings.Bandwidth, "B/s")} read and written, arithmetic {Rate(ceilings.Rate, "FLOP/s")} ({ceilings.RateKind})");
        Table table = new Table(
            "operator", "direction", "shape", "dtype", "path", "median", "spread", "rate", "of ceiling", "note").AlignRight(5, 6, 7, 8);
        foreach (BenchRow row in rows)
        {
            table.Add(
                row.Operator,
                Name(row.Setup.Direction),
                row.Setup.Shape.ToString(),
                StoredTypes.Name(row.Setup.Type),
                row.Path,
                row.Timing is { } timing ? Duration(timing.Median) : "-",
                row.Timing is { } spread ? string.Create(CultureInfo.InvariantCulture, $"±{100 * spread.Spread:0.0} %") : "-",
                row.Rate is { } value ? Rate(value, row.IsBandwidth ? "B/s" : "FLOP/s") : "-",
                row.Share(ceilings) is { } share ? string.Create(CultureInfo.InvariantCulture, $"{100 * share:0} %") : "-",
                row.Note);
        }
        table.Write(writer);
    }

    /// <summary>Writes the JSON object.</summary>
    public void WriteJson(Stream stream)
    {
        JsonWriterOptions options = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using Utf8JsonWriter json = new(stream, options);
        json.WriteStartObject();
        json.WriteString("format", Format);
        json.WriteString("version", SieveDiagnostics.ManagedVersion);
        json.WriteString("library", SieveDiagnostics.NativeLibraryVersion);
        json.WriteString("time", DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture));
        WriteDevice(json);
        json.WriteStartObject("ceilings");
        json.WriteNumber("copy_bytes_per_second", Significant(ceilings.Bandwidth));
        json.WriteNumber("flops_per_second", Significant(ceilings.Rate));
        json.WriteString("flops_kind", ceilings.RateKind);
        json.WriteEndObject();
        json.WriteStartArray("rows");
        foreach (BenchRow row in rows)
        {
            WriteRow(json, row);
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>The JSON object as text.</summary>
    public string Json()
    {
        using MemoryStream stream = new();
        WriteJson(stream);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private void WriteDevice(Utf8JsonWriter json)
    {
        json.WriteStartObject("device");
        json.WriteString("name", device.Name);
        json.WriteString("description", device.Describe());
        if (device is CudaDevice cuda)
        {
            json.WriteString("gpu", cuda.Info.Name);
            json.WriteNumber("cache_bytes", cuda.Info.CacheBytes);
            json.WriteNumber("driver_cuda_version", cuda.Info.DriverVersion);
        }
        json.WriteString("clock", device is CudaDevice ? "device events" : "host");
        json.WriteEndObject();
    }

    private void WriteRow(Utf8JsonWriter json, BenchRow row)
    {
        BenchShape shape = row.Setup.Shape;
        json.WriteStartObject();
        json.WriteString("operator", row.Operator);
        json.WriteString("direction", Name(row.Setup.Direction));
        json.WriteString("dtype", StoredTypes.Name(row.Setup.Type));
        json.WriteString("path", row.Path);
        json.WriteString("repeatability", row.Setup.Kernels.Repeatability.ToString().ToLowerInvariant());
        json.WriteNumber("batch", shape.Batch);
        json.WriteNumber("query_heads", shape.QueryHeads);
        json.WriteNumber("key_heads", shape.KeyHeads);
        json.WriteNumber("queries", shape.Queries);
        json.WriteNumber("keys", shape.Keys);
        json.WriteNumber("head_dim", shape.HeadDim);
        json.WriteNumber("value_dim", shape.ValueDim);
        json.WriteBoolean("causal", shape.Causal);
        WriteOptional(json, "window", shape.Window);
        json.WriteString("screen", Name(row.Setup.Screen));
        json.WriteNumber("sets", row.Sets);
        json.WriteNumber("runs", row.Timing?.Runs ?? 0);
        WriteOptional(json, "median_ms", 1e3 * row.Timing?.Median);
        WriteOptional(json, "least_ms", 1e3 * row.Timing?.Least);
        WriteOptional(json, "p10_ms", 1e3 * row.Timing?.Low);
        WriteOptional(json, "p90_ms", 1e3 * row.Timing?.High);
        json.WriteNumber("operations", row.Work.Operations);
        json.WriteNumber("cache_bytes_read", row.Work.Bytes);
        WriteOptional(json, "flops_per_second", row.IsBandwidth ? null : row.Rate);
        WriteOptional(json, "bytes_per_second", row.IsBandwidth ? row.Rate : null);
        WriteOptional(json, "share_of_ceiling", row.Share(ceilings));
        json.WriteString("note", row.Note);
        json.WriteEndObject();
    }

    private static void WriteOptional(Utf8JsonWriter json, string name, double? value)
    {
        if (value is { } number)
        {
            json.WriteNumber(name, Significant(number));
        }
        else
        {
            json.WriteNull(name);
        }
    }

    /// <summary>Six digits: more are noise.</summary>
    private static double Significant(double value) => double.Parse(value.ToString("G6", CultureInfo.InvariantCulture), CultureInfo.InvariantCulture);

    private static string Name(AttentionDirection direction) => direction.ToString().ToLowerInvariant();

    private static string Name(KeyScreen screen) => screen switch
    {
        KeyScreen.EightBits => "int8",
        KeyScreen.FourBits => "int4",
        _ => "none",
    };

    private static string Duration(double seconds) =>
        seconds < 1e-3 ? $"{Digits(seconds * 1e6)} us" : seconds < 1 ? $"{Digits(seconds * 1e3)} ms" : $"{Digits(seconds)} s";

    /// <summary>A rate with the prefix that leaves one to three digits before the point.</summary>
    private static string Rate(double value, string unit)
    {
        (double factor, string prefix) = value >= 1e12 ? (1e-12, "T") : value >= 1e9 ? (1e-9, "G") : (1e-6, "M");
        return $"{Digits(value * factor)} {prefix}{unit}";
    }

    private static string Digits(double value) => value.ToString(
        value >= 100 ? "0" : value >= 10 ? "0.0" : "0.00", CultureInfo.InvariantCulture);
}
