namespace SieveAttention.Cli.Cases;

/// <summary>The element types of case and result files and the names that the safetensors format gives them.</summary>
internal static class StoredTypes
{
    private static readonly (TensorType Type, string Name, int Size)[] s_types =
    [
        (TensorType.Float64, "F64", 8),
        (TensorType.Float32, "F32", 4),
        (TensorType.Float16, "F16", 2),
        (TensorType.BFloat16, "BF16", 2),
        (TensorType.Int32, "I32", 4),
    ];

    /// <summary>All names, for messages.</summary>
    public static string Names { get; } = string.Join(", ", s_types.Select(entry => entry.Name));

    /// <summary>The name in a file.</summary>
    public static string Name(TensorType type) => Entry(type).Name;

    /// <summary>Bytes of one element.</summary>
    public static int Size(TensorType type) => Entry(type).Size;

    /// <summary>Finds the type of a name; false for a name that is not one of <see cref="Names"/>.</summary>
    public static bool TryParse(string name, out TensorType type)
    {
        int index = Array.FindIndex(s_types, entry => entry.Name == name);
        type = index < 0 ? default : s_types[index].Type;
        return index >= 0;
    }

    private static (TensorType Type, string Name, int Size) Entry(TensorType type) =>
        Array.Find(s_types, entry => entry.Type == type);
}
