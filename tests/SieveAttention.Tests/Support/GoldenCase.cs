using System.Globalization;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Support;

/// <summary>A threshold differential case file of tests/data with its expected results.</summary>
internal sealed class GoldenCase
{
    private readonly SafeTensorsFile _case;
    private readonly SafeTensorsFile? _expected;

    private GoldenCase(SafeTensorsFile file, SafeTensorsFile? expected)
    {
        _case = file;
        _expected = expected;
    }

    public ThresholdDifferentialOptions Options => new()
    {
        Beta = Number("beta") ?? 1,
        Kappa = Number("kappa") ?? 1,
        Lambda = Number("lambda") ?? 0,
        Power = Number("power") ?? 2,
        Mask = new AttentionMask
        {
            Causal = !_case.Metadata.TryGetValue("causal", out string? causal) || causal == "true",
            QueryOffset = (long?)Number("query_offset"),
            Window = (int?)Number("window"),
        },
        Epilogue = new OutputEpilogue
        {
            Norm = _case.Metadata.GetValueOrDefault("norm") == "rms" ? OutputNorm.Rms : OutputNorm.None,
            NormEpsilon = Number("norm_eps"),
            OutputScale = Number("output_scale") ?? 1,
        },
    };

    public ThresholdDifferentialInputs Inputs => new()
    {
        Query1 = Tensor("q1")!,
        Key1 = Tensor("k1")!,
        Query2 = Tensor("q2"),
        Key2 = Tensor("k2"),
        Value = Tensor("v")!,
        NormGain = Tensor("norm_gain"),
        Gate = Tensor("gate"),
    };

    public AttentionTensor OutputGradient => Tensor("dout")!;

    public static GoldenCase Load(string folder, string name)
    {
        string path = Path.Combine(AppContext.BaseDirectory, "data", folder, name);
        string expected = $"{path}.expected.safetensors";
        return new GoldenCase(
            SafeTensorsReader.Read($"{path}.safetensors"), File.Exists(expected) ? SafeTensorsReader.Read(expected) : null);
    }

    /// <summary>Expected values of a result.</summary>
    public double[] Expected(string name) => _expected!.Tensors[name].ToDoubles();

    private AttentionTensor? Tensor(string name)
    {
        if (!_case.Tensors.TryGetValue(name, out StoredTensor? stored))
        {
            return null;
        }

        IReadOnlyList<int> s = stored.Shape;
        return stored.ToAttentionTensor(s.Count switch
        {
            1 => new TensorShape(1, 1, 1, s[0]),
            3 => new TensorShape(s[0], s[1], s[2], 1),
            _ => new TensorShape(s[0], s[1], s[2], s[3]),
        });
    }

    private double? Number(string key) =>
        _case.Metadata.TryGetValue(key, out string? text) ? double.Parse(text, CultureInfo.InvariantCulture) : null;
}
