using System.Globalization;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Support;

/// <summary>A case file of an operator with one view of queries and keys, with its expected results.</summary>
internal sealed class OneViewGolden
{
    private readonly SafeTensorsFile _case;
    private readonly SafeTensorsFile _expected;

    private OneViewGolden(SafeTensorsFile file, SafeTensorsFile expected, string device)
    {
        Device = AttentionDevice.Parse(device);
        _case = file;
        _expected = expected;
    }

    public AttentionDevice Device { get; }

    /// <summary>Of outputs, relative to the largest expected one.</summary>
    public double Tolerance => Device == AttentionDevice.Reference ? 1e-9 : 2e-4;

    public double GradientTolerance => Device == AttentionDevice.Reference ? 1e-8 : 1e-3;

    public AttentionInputs Inputs => new()
    {
        Query = Tensor("q")!,
        Key = Tensor("k")!,
        Value = Tensor("v")!,
        Gate = Tensor("gate"),
    };

    public ScoreOptions Scores => new()
    {
        Scale = Number("scale"),
        RowFactor = _case.Metadata.GetValueOrDefault("row_factor") switch
        {
            "ssmax" => RowFactor.Ssmax(Number("row_s")!.Value),
            "asentmax" => RowFactor.Asentmax(Number("row_beta")!.Value, Number("row_gamma")!.Value),
            _ => RowFactor.None,
        },
    };

    public AttentionMask Mask => new()
    {
        Causal = _case.Metadata.GetValueOrDefault("causal") != "false",
        QueryOffset = (long?)Number("query_offset"),
        Window = (int?)Number("window"),
    };

    public AttentionTensor OutputGradient => Tensor("dout")!;

    public static OneViewGolden Load(string name, string device)
    {
        string path = Path.Combine(AppContext.BaseDirectory, "data", "golden", name);
        return new OneViewGolden(
            SafeTensorsReader.Read($"{path}.safetensors"), SafeTensorsReader.Read($"{path}.expected.safetensors"), device);
    }

    public double[] Expected(string name) => _expected.Tensors[name].ToDoubles();

    public bool Expects(string name) => _expected.Tensors.ContainsKey(name);

    public double? Number(string key) =>
        _case.Metadata.TryGetValue(key, out string? text) ? double.Parse(text, CultureInfo.InvariantCulture) : null;

    private AttentionTensor? Tensor(string name)
    {
        if (!_case.Tensors.TryGetValue(name, out StoredTensor? stored))
        {
            return null;
        }

        IReadOnlyList<int> s = stored.Shape;
        return stored.ToAttentionTensor(
            s.Count == 3 ? new TensorShape(s[0], s[1], s[2], 1) : new TensorShape(s[0], s[1], s[2], s[3]));
    }
}
