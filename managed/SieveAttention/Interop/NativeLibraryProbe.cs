using System.Runtime.InteropServices;

namespace SieveAttention.Interop;

/// <summary>Tries candidates in order and remembers every attempt. Has no state beyond its own.</summary>
internal sealed class NativeLibraryProbe(IReadOnlyList<LibraryCandidate> candidates, uint expectedAbi)
{
    private readonly List<ProbeAttempt> _attempts = [];

    internal IReadOnlyList<ProbeAttempt> Attempts => _attempts;

    /// <summary>The attempt that succeeded.</summary>
    internal ProbeAttempt? Loaded { get; private set; }

    /// <summary>Why there is no library: what was tried and what to do. Null after success.</summary>
    internal string? Failure { get; private set; }

    /// <summary>Loads the first candidate that loads and has the expected ABI version; 0 where none does.</summary>
    internal nint Load()
    {
        foreach (LibraryCandidate candidate in candidates)
        {
            nint module = Try(candidate, out string outcome);
            ProbeAttempt attempt = new(candidate.Source, candidate.Path, outcome);
            _attempts.Add(attempt);
            if (module != 0)
            {
                Loaded = attempt;
                return module;
            }

            if (candidate.Required)
            {
                break;
            }
        }

        Failure = $"The native library {SieveNative.LibraryName} could not be loaded on {RuntimeInformation.RuntimeIdentifier}. Tried:"
            + string.Concat(_attempts.Select(attempt => $"{Environment.NewLine}  {attempt}"))
            + $"{Environment.NewLine}Add the package SieveAttention.Native.{NativeLoader.Rid} to the application, or set "
            + $"{NativeLoader.PathVariable} to the file. The devices 'cpu' and 'reference' work without it.";
        return 0;
    }

    private nint Try(LibraryCandidate candidate, out string outcome)
    {
        nint module;
        try
        {
            module = candidate.Load();
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException or FileNotFoundException)
        {
            outcome = e.Message.ReplaceLineEndings(" ");
            return 0;
        }

        if (CheckAbi(module) is { } mismatch)
        {
            NativeLibrary.Free(module);
            outcome = mismatch;
            return 0;
        }

        outcome = "loaded";
        return module;
    }

    private unsafe string? CheckAbi(nint module)
    {
        if (!NativeLibrary.TryGetExport(module, "sieve_abi_version", out nint export))
        {
            return "exports no sieve_abi_version, hence is another library";
        }

        uint abi = ((delegate* unmanaged[Cdecl]<uint>)export)();
        return abi == expectedAbi
            ? null
            : $"has ABI version {abi}; this build of SieveAttention needs version {expectedAbi}. Use packages of the same version.";
    }
}
