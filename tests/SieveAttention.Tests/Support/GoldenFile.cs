using System.Globalization;
using NUnit.Framework;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Support;

/// <summary>A case file of tests/data, with its expected results where it has them: metadata and tensors of any operator.</summary>
internal sealed class GoldenFile
{
    private readonly SafeTensorsFile _case;
    private readonly SafeTensorsFile? _expected;

    public GoldenFile(string name, string folder = "golden")
    {
        string path = Path.Combine(AppContext.BaseDirectory, "data", folder, name);
        string expected = $"{path}.expected.safetensors";
        _case = SafeTensorsReader.Read($"{path}.safetensors");
        _expected = File.Exists(expected) ? SafeTensorsReader.Read(expected) : null;
    }

    /// <summary>Names of the expected tensors.</summary>
    public IEnumerable<string> ExpectedNames => _expected!.Tensors.Keys;

    /// <summary>Whether there is an expected tensor of that name.</summary>
    public bool Expects(string name) => _expected!.Tensors.ContainsKey(name);

    /// <summary>Expected values of a result.</summary>
    public double[] Expected(string name) => _expected!.Tensors[name].ToDoubles();

    public AttentionMask Mask => new()
    {
        Causal = Text("causal") is null or "true",
        QueryOffset = (long?)Number("query_offset"),
        Window = (int?)Number("window"),
    };

    public OutputEpilogue Epilogue => new()
    {
        Norm = Text("norm") == "rms" ? OutputNorm.Rms : OutputNorm.None,
        NormEpsilon = Number("norm_eps"),
        OutputScale = Number("output_scale") ?? 1,
    };

    public string? Text(string key) => _case.Metadata.GetValueOrDefault(key);

    public double? Number(string key) => Text(key) is { } text ? double.Parse(text, CultureInfo.InvariantCulture) : null;

    /// <summary>A tensor of the case; null where it has none of that name.</summary>
    public AttentionTensor? Tensor(string name)
    {
        if (!_case.Tensors.TryGetValue(name, out StoredTensor? stored))
        {
            return null;
        }

        IReadOnlyList<int> s = stored.Shape;
        return stored.ToAttentionTensor(s.Count switch
        {
            1 => new TensorShape(1, 1, 1, s[0]),
            2 => new TensorShape(1, 1, s[0], s[1]),
            3 => new TensorShape(s[0], s[1], s[2], 1),
            _ => new TensorShape(s[0], s[1], s[2], s[3]),
        });
    }

    /// <summary>Compares a result with the expected one, relative to the largest expected magnitude.</summary>
    public void AssertClose(string name, double[] actual, double tolerance)
    {
        Deviation deviation = Deviation.Of(actual, Expected(name));
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{name}: {deviation}");
    }
}
