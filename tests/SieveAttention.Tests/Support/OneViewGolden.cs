namespace SieveAttention.Tests.Support;

/// <summary>A case file of an operator with one view of queries and keys, with its expected results.</summary>
internal sealed class OneViewGolden(string name, string device)
{
    public GoldenFile File { get; } = new(name);

    public AttentionDevice Device { get; } = AttentionDevice.Parse(device);

    /// <summary>Of outputs, relative to the largest expected one.</summary>
    public double Tolerance => Device == AttentionDevice.Reference ? 1e-9 : 2e-4;

    public double GradientTolerance => Device == AttentionDevice.Reference ? 1e-8 : 1e-3;

    public AttentionInputs Inputs => new()
    {
        Query = File.Tensor("q")!,
        Key = File.Tensor("k")!,
        Value = File.Tensor("v")!,
        Gate = File.Tensor("gate"),
    };

    public ScoreOptions Scores => new()
    {
        Scale = File.Number("scale"),
        RowFactor = File.Text("row_factor") switch
        {
            "ssmax" => RowFactor.Ssmax(File.Number("row_s")!.Value),
            "asentmax" => RowFactor.Asentmax(File.Number("row_beta")!.Value, File.Number("row_gamma")!.Value),
            _ => RowFactor.None,
        },
    };

    public AttentionMask Mask => File.Mask;

    public AttentionTensor OutputGradient => File.Tensor("dout")!;

    public static OneViewGolden Load(string name, string device) => new(name, device);

    public double[] Expected(string name) => File.Expected(name);

    public bool Expects(string name) => File.Expects(name);

    public double? Number(string key) => File.Number(key);
}
