namespace SieveAttention.Tests.Cli;

/// <summary>Paths of the data files beside the tests.</summary>
internal static class TestData
{
    public static string Golden(string name) => Path.Combine(AppContext.BaseDirectory, "data", "golden", $"{name}.safetensors");

    public static string Real(string name) => Path.Combine(AppContext.BaseDirectory, "data", "real", $"{name}.safetensors");
}
