using System.Globalization;
using NUnit.Framework;
using SieveAttention.Cli.Cases;
using SieveAttention.Cpu.Rows;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Golden cases of operators with one view: outputs within 2e-4 and gradients within 1e-3 of the largest expected magnitude, integers
/// exactly.
/// </summary>
internal sealed class RowGoldenTests
{
    [TestCase("softmax-causal")]
    public void Softmax_reproduces(string name)
    {
        Case golden = new(name);
        SieveAttention.Cpu.Softmax.ForwardResult result = SieveAttention.Cpu.Softmax.Forward(
            golden.Problem, golden.Terms, golden.Query, golden.Key, golden.Value);
        golden.AssertOutput("out", result.Output.Data);
        golden.AssertOutput("lse", result.LogSumExp);
        golden.AssertGradients(SieveAttention.Cpu.Softmax.Backward(
            golden.Problem, golden.Terms, golden.Query, golden.Key, golden.Value, result.Output, result.LogSumExp, golden.OutputGradient));
    }

    [TestCase("entmax-15")]
    [TestCase("entmax-175-gqa")]
    public void Entmax_reproduces(string name)
    {
        Case golden = new(name);
        EntmaxRow row = new(golden.Problem, [.. Enumerable.Repeat(golden.Number("alpha"), golden.Problem.QueryHeads)]);
        golden.AssertForwardAndBackward(row);
        golden.AssertOutput("tau", row.Tau);
        Assert.That(Array.ConvertAll(row.Support, count => (double)count), Is.EqualTo(golden.Expected("support")));
        RowCase.AssertClose("dalpha", [(float)row.AlphaGradient.Sum()], golden.Expected("dalpha"), 1e-3);
    }

    [TestCase("support_basis-one")]
    [TestCase("support_basis-two")]
    public void Support_basis_reproduces(string name)
    {
        Case golden = new(name);
        int tile = (int)golden.Number("tile");
        SieveAttention.Reference.SupportBasisTiles tiles = new(
            golden.Problem, new ScoreTerms<double>(golden.Scale), RowCase.Wide(golden.Query), RowCase.Wide(golden.Key),
            golden.Number("bound"), tile);
        golden.AssertForwardAndBackward(new SupportBasisRow(golden.Problem, tiles, tile, (int)golden.Number("degree")));
    }

    private sealed class Case
    {
        private readonly SafeTensorsFile _case;
        private readonly SafeTensorsFile _expected;

        internal Case(string name)
        {
            string path = Path.Combine(AppContext.BaseDirectory, "data", "golden", name);
            _case = SafeTensorsReader.Read($"{path}.safetensors");
            _expected = SafeTensorsReader.Read($"{path}.expected.safetensors");
            Query = Tensor("q");
            Key = Tensor("k");
            Value = Tensor("v");
            OutputGradient = Tensor("dout");
            TensorShape q = Query.Shape;
            TensorShape v = Value.Shape;
            Problem = new(
                q.Batch, q.Heads, v.Heads, q.Rows, v.Rows, q.Channels, v.Channels, Causal: true, QueryOffset: v.Rows - q.Rows, Window: 0);
            Scale = 1 / Math.Sqrt(q.Channels);
            Terms = new ScoreTerms<float>((float)Scale);
        }

        internal AttentionProblem Problem { get; }

        internal double Scale { get; }

        internal ScoreTerms<float> Terms { get; }

        internal HostArray<float> Query { get; }

        internal HostArray<float> Key { get; }

        internal HostArray<float> Value { get; }

        internal HostArray<float> OutputGradient { get; }

        internal double[] Expected(string name) => _expected.Tensors[name].ToDoubles();

        internal double Number(string key) => double.Parse(_case.Metadata[key], CultureInfo.InvariantCulture);

        internal void AssertOutput(string name, float[] actual) => RowCase.AssertClose(name, actual, Expected(name), 2e-4);

        internal void AssertForwardAndBackward(RowFunction row)
        {
            AssertOutput("out", SieveAttention.Cpu.RowAttention.Forward(Problem, Terms, row, Query, Key, Value).Data);
            AssertGradients(SieveAttention.Cpu.RowAttention.Backward(Problem, Terms, row, Query, Key, Value, OutputGradient));
        }

        internal void AssertGradients(RowGradients<float> gradients)
        {
            RowCase.AssertClose("dq", gradients.Query.Data, Expected("dq"), 1e-3);
            RowCase.AssertClose("dk", gradients.Key.Data, Expected("dk"), 1e-3);
            RowCase.AssertClose("dv", gradients.Value.Data, Expected("dv"), 1e-3);
        }

        private HostArray<float> Tensor(string name)
        {
            StoredTensor stored = _case.Tensors[name];
            IReadOnlyList<int> shape = stored.Shape;
            return HostArray<float>.Read(stored.ToAttentionTensor(new TensorShape(shape[0], shape[1], shape[2], shape[3])));
        }
    }
}
