using System.Buffers;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text.Encodings.Web;
using System.Text.Json;
using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Cli.Commands;

/// <summary><c>sieve info</c>: what is installed and what can run here.</summary>
internal sealed class InfoCommand : Command
{
    private const string JsonOption = "--json";

    /// <inheritdoc/>
    public override string Name => "info";

    /// <inheritdoc/>
    public override string Summary => "Shows devices, the native library with its kernels, and versions.";

    /// <inheritdoc/>
    public override string Operands => "";

    /// <inheritdoc/>
    public override IReadOnlyList<Option> Options { get; } = [new(JsonOption, null, "Write one JSON object.")];

    /// <inheritdoc/>
    protected override ExitCode Run(Arguments arguments, CommandContext context)
    {
        if (arguments.Operands.Count > 0)
        {
            throw new UsageException($"found the operand {Text.Quote(arguments.Operands[0])}; allowed: none");
        }
        Information information = Information.Collect();
        if (arguments.Has(JsonOption))
        {
            WriteJson(context.Out, information);
        }
        else
        {
            WriteText(context.Out, information);
        }
        return ExitCode.Ok;
    }

    private static void WriteText(TextWriter writer, Information information)
    {
        writer.WriteLine($"SieveAttention {SieveDiagnostics.ManagedVersion} (ABI version {SieveDiagnostics.AbiVersion})");
        writer.WriteLine($".NET {Environment.Version}, {RuntimeInformation.OSDescription}, {RuntimeInformation.RuntimeIdentifier}");
        writer.WriteLine();
        writer.WriteLine("devices");
        writer.WriteLine($"  {AttentionDevice.Reference.Describe()}");
        writer.WriteLine($"  {AttentionDevice.Cpu.Describe()}, {information.VectorBits}-bit vectors");
        foreach (CudaEntry cuda in information.Cuda)
        {
            writer.WriteLine($"  {cuda.Name}: {cuda.Info}");
        }
        if (information.CudaAbsence is { } reason)
        {
            writer.WriteLine($"  cuda: absent: {Text.OneLine(reason)}");
        }
        writer.WriteLine();
        writer.WriteLine("native library");
        writer.WriteLine($"  {information.LibraryVersion ?? "none"}");
        writer.WriteLine($"  path: {information.LibraryPath ?? "none"}");
        foreach (string attempt in information.Attempts)
        {
            writer.WriteLine($"  tried {Text.OneLine(attempt)}");
        }
        writer.WriteLine($"  kernels: {information.Kernels.Count}");
        foreach (string kernel in information.Kernels)
        {
            writer.WriteLine($"    {kernel}");
        }
    }

    private static void WriteJson(TextWriter writer, Information information)
    {
        ArrayBufferWriter<byte> buffer = new();
        JsonWriterOptions options = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (Utf8JsonWriter json = new(buffer, options))
        {
            json.WriteStartObject();
            json.WriteString("version", SieveDiagnostics.ManagedVersion);
            json.WriteNumber("abi_version", SieveDiagnostics.AbiVersion);
            json.WriteString("dotnet", Environment.Version.ToString());
            json.WriteString("os", RuntimeInformation.OSDescription);
            json.WriteString("rid", RuntimeInformation.RuntimeIdentifier);
            WriteDevices(json, information);
            json.WriteStartObject("library");
            json.WriteString("version", information.LibraryVersion);
            json.WriteString("path", information.LibraryPath);
            WriteStrings(json, "attempts", information.Attempts);
            WriteStrings(json, "kernels", information.Kernels);
            json.WriteEndObject();
            json.WriteEndObject();
        }
        writer.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.WrittenSpan));
    }

    private static void WriteDevices(Utf8JsonWriter json, Information information)
    {
        json.WriteStartArray("devices");
        json.WriteStartObject();
        json.WriteString("name", AttentionDevice.Reference.Name);
        json.WriteBoolean("available", true);
        json.WriteString("precision", "float64");
        json.WriteEndObject();
        json.WriteStartObject();
        json.WriteString("name", AttentionDevice.Cpu.Name);
        json.WriteBoolean("available", true);
        json.WriteString("precision", "float32");
        json.WriteNumber("cores", Environment.ProcessorCount);
        json.WriteNumber("vector_bits", information.VectorBits);
        json.WriteEndObject();
        foreach (CudaEntry cuda in information.Cuda)
        {
            json.WriteStartObject();
            json.WriteString("name", cuda.Name);
            json.WriteBoolean("available", true);
            json.WriteString("gpu", cuda.Info.Name);
            json.WriteString("compute_capability", $"{cuda.Info.CapabilityMajor}.{cuda.Info.CapabilityMinor}");
            json.WriteNumber("multiprocessors", cuda.Info.Multiprocessors);
            json.WriteNumber("memory_bytes", cuda.Info.MemoryBytes);
            json.WriteNumber("driver_cuda_version", cuda.Info.DriverVersion);
            json.WriteEndObject();
        }
        if (information.CudaAbsence is { } reason)
        {
            json.WriteStartObject();
            json.WriteString("name", "cuda");
            json.WriteBoolean("available", false);
            json.WriteString("reason", reason);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void WriteStrings(Utf8JsonWriter json, string name, IEnumerable<string> values)
    {
        json.WriteStartArray(name);
        foreach (string value in values)
        {
            json.WriteStringValue(value);
        }
        json.WriteEndArray();
    }

    private sealed record CudaEntry(string Name, CudaDeviceInfo Info);

    /// <summary>Everything that is shown, collected once.</summary>
    private sealed record Information(
        int VectorBits,
        IReadOnlyList<CudaEntry> Cuda,
        string? CudaAbsence,
        string? LibraryVersion,
        string? LibraryPath,
        IReadOnlyList<string> Attempts,
        IReadOnlyList<string> Kernels)
    {
        public static Information Collect()
        {
            string? version = SieveDiagnostics.NativeLibraryVersion;
            List<CudaEntry> cuda = [];
            string? absence = CudaDevice.IsAvailable(out string reason) ? null : reason;
            for (int ordinal = 0; absence is null && ordinal < CudaDevice.Count; ordinal++)
            {
                using CudaDevice device = AttentionDevice.Cuda(ordinal);
                cuda.Add(new CudaEntry(device.Name, device.Info));
            }
            int vectorBits = Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : 128;
            return new Information(
                vectorBits, cuda, absence, version, version is null ? null : LoadedPath(), SieveDiagnostics.ProbedPaths, KernelList.Read());
        }

        /// <summary>The file that the system loaded, also where the runtime's own search found it.</summary>
        private static string? LoadedPath()
        {
            using Process process = Process.GetCurrentProcess();
            return process.Modules.Cast<ProcessModule>()
                .Select(module => module.FileName)
                .FirstOrDefault(file => Path.GetFileName(file).Contains("sieve_attention", StringComparison.Ordinal));
        }
    }
}
