using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Golden cases of grouped differential attention on every device that has it; integers do not occur.</summary>
[TestFixture("reference", "diff_v2-one-signal", 1e-9, 1e-8)]
[TestFixture("reference", "diff_v2-three-signals", 1e-9, 1e-8)]
[TestFixture("cpu", "diff_v2-one-signal", 2e-4, 1e-3)]
[TestFixture("cpu", "diff_v2-three-signals", 2e-4, 1e-3)]
internal sealed class GroupedDifferentialGoldenTests(string device, string name, double tolerance, double gradientTolerance)
{
    private readonly GoldenFile _golden = new(name);

    private GroupedDifferentialInputs Inputs => new()
    {
        Query = _golden.Tensor("q")!,
        Key = _golden.Tensor("k")!,
        Value = _golden.Tensor("v")!,
        LambdaLogit = _golden.Tensor("lambda_logit")!,
        Gate = _golden.Tensor("gate"),
    };

    [Test]
    public void Forward_reproduces_every_output()
    {
        using GroupedDifferentialResult result = Operator().Forward(Inputs);
        Assert.Multiple(() =>
        {
            _golden.AssertClose("out", Values.Doubles(result.Output), tolerance);
            _golden.AssertClose("lse", Values.Doubles(result.LogSumExp), tolerance);
        });
    }

    [Test]
    public void Backward_reproduces_every_gradient()
    {
        using GroupedDifferentialGradients gradients = Operator().Backward(Inputs, _golden.Tensor("dout")!);
        Dictionary<string, double[]> actual = new()
        {
            ["dq"] = Values.Doubles(gradients.Query),
            ["dk"] = Values.Doubles(gradients.Key),
            ["dv"] = Values.Doubles(gradients.Value),
            ["dlambda_logit"] = Values.Doubles(gradients.LambdaLogit),
        };
        Assert.Multiple(() =>
        {
            foreach (string expected in _golden.ExpectedNames.Where(expected => expected.StartsWith('d')))
            {
                _golden.AssertClose(expected, actual[expected], gradientTolerance);
            }
        });
    }

    private GroupedDifferentialAttention Operator() => new(AttentionDevice.Parse(device), new GroupedDifferentialOptions
    {
        Signals = (int)_golden.Number("signals")!,
        Scores = new ScoreOptions { Scale = _golden.Number("scale") },
        Mask = _golden.Mask,
        Epilogue = _golden.Epilogue,
    });
}
