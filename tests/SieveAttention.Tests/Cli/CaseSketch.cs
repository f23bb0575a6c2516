using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Cli;

/// <summary>A small case that tests change before they parse or write it.</summary>
internal sealed class CaseSketch
{
    /// <summary>A valid case of tda: B 1, Hq 2, Hkv 1, Tq 3, Tk 4, D 2, Dv 3, no norm.</summary>
    public CaseSketch()
    {
        AddTwoViews().Set("lambda", "0.25");
    }

    private CaseSketch(string name)
    {
        Metadata["op"] = name;
    }

    public Dictionary<string, string> Metadata { get; } = new() { ["format"] = "sieve-case/1", ["op"] = "tda" };

    public Dictionary<string, StoredTensor> Tensors { get; } = [];

    /// <summary>
    /// A valid case of an operator with only what it requires: B 1, Hq 2 (4 where heads are grouped), Hkv 1, Tq 3, Tk 4, D 2, Dv 3.
    /// </summary>
    public static CaseSketch Of(string name) => name switch
    {
        "tda" => new CaseSketch(name).AddTwoViews(),
        "diff" => new CaseSketch(name).AddTwoViews().Set("lambda", "0.25"),
        "diff_v2" => new CaseSketch(name).AddView(4).Add("lambda_logit", 1, 2, 3),
        "ssa" => new CaseSketch(name).AddView(2).Set("block_size", "2").Set("block_count", "1"),
        "support_basis" => new CaseSketch(name).AddView(2).Set("bound", "0.5"),
        _ => new CaseSketch(name).AddView(2),
    };

    /// <summary>Adds or replaces a tensor of values that no other tensor has.</summary>
    public CaseSketch Add(string name, params int[] shape) => Add(name, TensorType.Float32, shape);

    /// <summary>Adds or replaces a tensor of a type.</summary>
    public CaseSketch Add(string name, TensorType type, params int[] shape)
    {
        int count = shape.Aggregate(1, (product, size) => product * size);
        Array values = StoredTensor.AllocateValues(type, count);
        Random random = new(name.Sum(letter => letter) + count);
        for (int i = 0; i < count; i++)
        {
            float value = (float)(random.NextDouble() - 0.5);
            object element = type switch
            {
                TensorType.Float64 => (double)value,
                TensorType.Float16 => (Half)value,
                TensorType.BFloat16 => (BFloat16)value,
                TensorType.Int32 => i,
                _ => value,
            };
            values.SetValue(element, i);
        }
        Tensors[name] = new StoredTensor(name, shape, values);
        return this;
    }

    /// <summary>Sets a metadata value; null removes the key.</summary>
    public CaseSketch Set(string key, string? value)
    {
        if (value is null)
        {
            Metadata.Remove(key);
        }
        else
        {
            Metadata[key] = value;
        }
        return this;
    }

    /// <summary>Removes a tensor.</summary>
    public CaseSketch Remove(string name)
    {
        Tensors.Remove(name);
        return this;
    }

    /// <summary>Parses it as a file named <c>sketch</c>.</summary>
    public AttentionCase Parse() => CaseFile.Parse(new SafeTensorsFile("sketch", Metadata, Tensors));

    /// <summary>Writes it to a file.</summary>
    public string Write(string path)
    {
        SafeTensorsWriter.Write(path, Metadata, Tensors.Values);
        return path;
    }

    private CaseSketch AddView(int queryHeads) => Add("q", 1, queryHeads, 3, 2).Add("k", 1, 1, 4, 2).Add("v", 1, 1, 4, 3);

    private CaseSketch AddTwoViews() =>
        Add("q1", 1, 2, 3, 2).Add("q2", 1, 2, 3, 2).Add("k1", 1, 1, 4, 2).Add("k2", 1, 1, 4, 2).Add("v", 1, 1, 4, 3);
}
