namespace SieveAttention.Tests.Support;

/// <summary>A sparse sparse case file of tests/data with its expected results, where it has any.</summary>
internal sealed class SparseSparseGolden(string folder, string name)
{
    private readonly GoldenFile _file = new(name, folder);

    public SparseSparseOptions Options => new()
    {
        BlockSize = (int)_file.Number("block_size")!,
        BlockCount = (int)_file.Number("block_count")!,
        Selection = _file.Text("selection") == "released" ? BlockSelectionRule.Released : BlockSelectionRule.Exact,
        Stream = _file.Text("stream") switch
        {
            "both" => SparseSparseMode.Both,
            "full" => SparseSparseMode.Full,
            _ => SparseSparseMode.Sparse,
        },
        Alignment = _file.Text("alignment") == "ungated" ? AlignmentPlacement.Ungated : AlignmentPlacement.Gated,
        AlignmentWeight = _file.Number("alignment_weight") ?? 0,
        Scores = new ScoreOptions { Scale = _file.Number("scale") },
        Mask = _file.Mask,
    };

    public SparseSparseInputs Inputs => new()
    {
        Query = _file.Tensor("q")!,
        Key = _file.Tensor("k")!,
        Value = _file.Tensor("v")!,
        Gate = _file.Tensor("gate"),
    };

    public static SparseSparseGolden Load(string folder, string name) => new(folder, name);

    /// <summary>Expected values of a result.</summary>
    public double[] Expected(string name) => _file.Expected(name);

    /// <summary>Names of all expected results.</summary>
    public IEnumerable<string> ExpectedNames => _file.ExpectedNames;

    public AttentionTensor? Tensor(string name) => _file.Tensor(name);
}
