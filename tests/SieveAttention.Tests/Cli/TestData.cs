namespace SieveAttention.Tests.Cli;

/// <summary>Paths of the data files beside the tests.</summary>
internal static class TestData
{
    /// <summary>Names of all golden cases, without those of their expected results.</summary>
    public static IEnumerable<string> GoldenNames { get; } =
    [
        .. Directory.EnumerateFiles(Path.Combine(AppContext.BaseDirectory, "data", "golden"), "*.safetensors")
            .Select(path => Path.GetFileNameWithoutExtension(path))
            .Where(name => !name.EndsWith(".expected", StringComparison.Ordinal)).Order(StringComparer.Ordinal),
    ];

    public static string Golden(string name) => Path.Combine(AppContext.BaseDirectory, "data", "golden", $"{name}.safetensors");

    public static string Real(string name) => Path.Combine(AppContext.BaseDirectory, "data", "real", $"{name}.safetensors");
}
