namespace SieveAttention.Cli.Cases;

/// <summary>The content of a safetensors file.</summary>
/// <param name="Name">The path it came from, for messages.</param>
/// <param name="Metadata">Free text by key.</param>
/// <param name="Tensors">Tensors by name.</param>
internal sealed record SafeTensorsFile(
    string Name, IReadOnlyDictionary<string, string> Metadata, IReadOnlyDictionary<string, StoredTensor> Tensors);
