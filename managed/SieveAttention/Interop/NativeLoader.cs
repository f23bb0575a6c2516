using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace SieveAttention.Interop;

/// <summary>
/// Finds the native library once for the process. Order: the path set in code, the environment variable, the runtime's search
/// (which knows the folders of packages), the package layout below the application. The outcome, good or bad, is remembered.
/// Thread-safe.
/// </summary>
internal static class NativeLoader
{
    internal const string PathVariable = "SIEVE_NATIVE_PATH";

    private static readonly Lock s_lock = new();
    private static string? s_explicitPath;
    private static NativeLibraryProbe? s_probe;
    private static nint s_module;

    /// <summary>Runtime identifier of the native package for this process.</summary>
    internal static string Rid { get; } =
        (OperatingSystem.IsWindows() ? "win-" : OperatingSystem.IsMacOS() ? "osx-" : "linux-")
        + RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant();

    /// <summary>File that is loaded instead of any other; can be set until the library is first used.</summary>
    internal static string? ExplicitPath
    {
        get => s_explicitPath;
        set
        {
            lock (s_lock)
            {
                if (s_probe is not null)
                {
                    throw new InvalidOperationException(
                        $"The native library path cannot become '{value}': the library has been used already ({Summary()}). " +
                        "Set the path before anything else of SieveAttention.");
                }

                s_explicitPath = value;
            }
        }
    }

    /// <summary>Every attempt so far, in order; empty before the first use.</summary>
    internal static IReadOnlyList<ProbeAttempt> Attempts => s_probe?.Attempts ?? [];

    /// <summary>Loads the library if that has not been tried.</summary>
    /// <exception cref="PlatformNotSupportedException">There is none; lists every path tried.</exception>
    internal static void EnsureLoaded()
    {
        if (!TryEnsureLoaded(out string? failure))
        {
            throw new PlatformNotSupportedException(failure);
        }
    }

    internal static bool TryEnsureLoaded([NotNullWhen(false)] out string? failure)
    {
        lock (s_lock)
        {
            if (s_probe is null)
            {
                NativeLibraryProbe probe = new(
                    Candidates(s_explicitPath, Environment.GetEnvironmentVariable(PathVariable), AppContext.BaseDirectory),
                    (uint)SieveAbi.Version);
                s_module = probe.Load();
                s_probe = probe;
            }

            failure = s_probe.Failure;
            return failure is null;
        }
    }

    /// <summary>Where to look, given the settings of the process.</summary>
    internal static IReadOnlyList<LibraryCandidate> Candidates(string? explicitPath, string? variable, string baseDirectory)
    {
        List<LibraryCandidate> candidates = [];
        if (!string.IsNullOrEmpty(explicitPath))
        {
            candidates.Add(File("path set in code", explicitPath, required: true));
        }

        if (!string.IsNullOrEmpty(variable))
        {
            candidates.Add(File(
                PathVariable, Directory.Exists(variable) ? Path.Combine(variable, FileName) : variable, required: true));
        }

        Assembly assembly = typeof(NativeLoader).Assembly;
        candidates.Add(new LibraryCandidate(
            "search of the runtime",
            SieveNative.LibraryName,
            () => NativeLibrary.TryLoad(SieveNative.LibraryName, assembly, DllImportSearchPath.AssemblyDirectory, out nint module)
                ? module
                : throw new DllNotFoundException("not beside the application and not in a package")));
        candidates.Add(File("package layout", Path.Combine(baseDirectory, "runtimes", Rid, "native", FileName), required: false));
        return candidates;
    }

    private static string FileName => OperatingSystem.IsWindows() ? $"{SieveNative.LibraryName}.dll"
        : OperatingSystem.IsMacOS() ? $"lib{SieveNative.LibraryName}.dylib"
        : $"lib{SieveNative.LibraryName}.so";

    [ModuleInitializer]
    [SuppressMessage(
        "Usage", "CA2255", Justification = "Imports without GC transition bind when their caller is compiled: later is too late.")]
    internal static void Register() => NativeLibrary.SetDllImportResolver(typeof(NativeLoader).Assembly, Resolve);

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? searchPath)
    {
        if (name != SieveNative.LibraryName)
        {
            return 0;
        }

        EnsureLoaded();
        return s_module;
    }

    private static LibraryCandidate File(string source, string path, bool required) => new(
        source,
        path,
        () => System.IO.File.Exists(path) ? NativeLibrary.Load(path) : throw new FileNotFoundException("no such file"),
        required);

    private static string Summary() => s_probe?.Loaded?.ToString() ?? "no library was found";
}
