using System.Globalization;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Support;

/// <summary>A sparse sparse case file of tests/data with its expected results, where it has any.</summary>
internal sealed class SparseSparseGolden
{
    private readonly SafeTensorsFile _case;
    private readonly SafeTensorsFile? _expected;

    private SparseSparseGolden(SafeTensorsFile file, SafeTensorsFile? expected)
    {
        _case = file;
        _expected = expected;
    }

    public SparseSparseOptions Options => new()
    {
        BlockSize = (int)Number("block_size")!,
        BlockCount = (int)Number("block_count")!,
        Selection = Text("selection") == "released" ? BlockSelectionRule.Released : BlockSelectionRule.Exact,
        Stream = Text("stream") switch
        {
            "both" => SparseSparseMode.Both,
            "full" => SparseSparseMode.Full,
            _ => SparseSparseMode.Sparse,
        },
        Alignment = Text("alignment") == "ungated" ? AlignmentPlacement.Ungated : AlignmentPlacement.Gated,
        AlignmentWeight = Number("alignment_weight") ?? 0,
        Scores = new ScoreOptions { Scale = Number("scale") },
        Mask = new AttentionMask { QueryOffset = (long?)Number("query_offset") },
    };

    public SparseSparseInputs Inputs => new()
    {
        Query = Tensor("q")!,
        Key = Tensor("k")!,
        Value = Tensor("v")!,
        Gate = Tensor("gate"),
    };

    public static SparseSparseGolden Load(string folder, string name)
    {
        string path = Path.Combine(AppContext.BaseDirectory, "data", folder, name);
        string expected = $"{path}.expected.safetensors";
        return new SparseSparseGolden(
            SafeTensorsReader.Read($"{path}.safetensors"), File.Exists(expected) ? SafeTensorsReader.Read(expected) : null);
    }

    /// <summary>Expected values of a result.</summary>
    public double[] Expected(string name) => _expected!.Tensors[name].ToDoubles();

    /// <summary>Names of all expected results.</summary>
    public IEnumerable<string> ExpectedNames => _expected!.Tensors.Keys;

    public AttentionTensor? Tensor(string name)
    {
        if (!_case.Tensors.TryGetValue(name, out StoredTensor? stored))
        {
            return null;
        }

        IReadOnlyList<int> s = stored.Shape;
        return stored.ToAttentionTensor(new TensorShape(s[0], s[1], s[2], s.Count == 3 ? 1 : s[3]));
    }

    private string? Text(string key) => _case.Metadata.GetValueOrDefault(key);

    private double? Number(string key) => Text(key) is { } text ? double.Parse(text, CultureInfo.InvariantCulture) : null;
}
