using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using SieveAttention.Interop;

namespace SieveAttention;

/// <summary>What was loaded, from where, and why not: the text to put into a bug report. Thread-safe.</summary>
public static class SieveDiagnostics
{
    /// <summary>Version of this assembly.</summary>
    public static string ManagedVersion { get; } =
        typeof(SieveDiagnostics).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    /// <summary>Version of the C interface that this assembly needs.</summary>
    public static int AbiVersion => (int)SieveAbi.Version;

    /// <summary>
    /// File of the native library to load instead of searching; null to search. Can be set until the library is first used.
    /// </summary>
    /// <exception cref="InvalidOperationException">The library has been used already.</exception>
    public static string? NativeLibraryPath
    {
        get => NativeLoader.ExplicitPath;
        set => NativeLoader.ExplicitPath = value;
    }

    /// <summary>
    /// Every place where the native library was looked for, in order, with the outcome; empty before its first use.
    /// </summary>
    public static IReadOnlyList<string> ProbedPaths => [.. NativeLoader.Attempts.Select(attempt => attempt.ToString())];

    /// <summary>What the native library says about its build; null where it cannot be loaded. Loads it.</summary>
    public static unsafe string? NativeLibraryVersion =>
        NativeLoader.TryEnsureLoaded(out _) ? NativeStatus.Text(SieveNative.BuildDescription()) : null;

    /// <summary>Describes versions, the native library and the devices, in several lines. Loads the native library.</summary>
    /// <returns>The text.</returns>
    public static string Describe()
    {
        StringBuilder text = new();
        text.AppendLine($"SieveAttention {ManagedVersion}, ABI version {AbiVersion}");
        text.AppendLine($".NET {Environment.Version} on {RuntimeInformation.OSDescription} ({RuntimeInformation.RuntimeIdentifier})");
        text.AppendLine($"native library: {NativeLibraryVersion ?? "none"}");
        foreach (string path in ProbedPaths)
        {
            text.AppendLine($"  {path}");
        }

        text.AppendLine(AttentionDevice.Reference.Describe());
        text.AppendLine(AttentionDevice.Cpu.Describe());
        if (CudaDevice.IsAvailable(out string reason))
        {
            for (int ordinal = 0; ordinal < CudaDevice.Count; ordinal++)
            {
                using CudaDevice device = AttentionDevice.Cuda(ordinal);
                text.AppendLine(device.Describe());
            }
        }
        else
        {
            text.AppendLine($"cuda: not available: {reason}");
        }

        return text.ToString();
    }
}
