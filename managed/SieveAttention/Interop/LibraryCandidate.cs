namespace SieveAttention.Interop;

/// <summary>One place where the native library may be.</summary>
/// <param name="Source">What named the place: a setting, a variable, a search.</param>
/// <param name="Path">The file, or the logical name where the runtime searches.</param>
/// <param name="Load">Loads it: a module handle, or an exception of the loader.</param>
/// <param name="Required">
/// Whether somebody asked for exactly this file. A failure then ends the search: another library in its place would be a silent
/// change of path.
/// </param>
internal sealed record LibraryCandidate(string Source, string Path, Func<nint> Load, bool Required = false);

/// <summary>One attempt to load the native library, and how it ended.</summary>
internal sealed record ProbeAttempt(string Source, string Path, string Outcome)
{
    public override string ToString() => $"{Path} ({Source}): {Outcome}";
}
