using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Golden cases of differential attention on every device that has it; integers do not occur.</summary>
[TestFixture("reference", "diff-lambda", 1e-9, 1e-8)]
[TestFixture("reference", "diff-vectors-norm", 1e-9, 1e-8)]
[TestFixture("cpu", "diff-lambda", 2e-4, 1e-3)]
[TestFixture("cpu", "diff-vectors-norm", 2e-4, 1e-3)]
internal sealed class DifferentialGoldenTests(string device, string name, double tolerance, double gradientTolerance)
{
    private readonly GoldenFile _golden = new(name);

    private DifferentialInputs Inputs => new()
    {
        Query1 = _golden.Tensor("q1")!,
        Key1 = _golden.Tensor("k1")!,
        Query2 = _golden.Tensor("q2")!,
        Key2 = _golden.Tensor("k2")!,
        Value = _golden.Tensor("v")!,
        LambdaVectors = _golden.Tensor("lambda_vectors"),
        NormGain = _golden.Tensor("norm_gain"),
        Gate = _golden.Tensor("gate"),
    };

    [Test]
    public void Forward_reproduces_every_output()
    {
        using DifferentialResult result = Operator().Forward(Inputs);
        Assert.Multiple(() =>
        {
            _golden.AssertClose("out", Values.Doubles(result.Output), tolerance);
            _golden.AssertClose("lse1", Values.Doubles(result.LogSumExp1), tolerance);
            _golden.AssertClose("lse2", Values.Doubles(result.LogSumExp2), tolerance);
        });
    }

    [Test]
    public void Backward_reproduces_every_gradient()
    {
        using DifferentialGradients gradients = Operator().Backward(Inputs, _golden.Tensor("dout")!);
        Dictionary<string, double[]?> actual = new()
        {
            ["dq1"] = Values.Doubles(gradients.Query1),
            ["dk1"] = Values.Doubles(gradients.Key1),
            ["dq2"] = Values.Doubles(gradients.Query2),
            ["dk2"] = Values.Doubles(gradients.Key2),
            ["dv"] = Values.Doubles(gradients.Value),
            ["dlambda"] = [.. gradients.Lambda],
            ["dlambda_vectors"] = gradients.LambdaVectors is null ? null : Values.Doubles(gradients.LambdaVectors),
            ["dnorm_gain"] = gradients.NormGain is null ? null : Values.Doubles(gradients.NormGain),
        };
        Assert.Multiple(() =>
        {
            foreach (string expected in _golden.ExpectedNames.Where(expected => expected.StartsWith('d')))
            {
                _golden.AssertClose(expected, actual[expected]!, gradientTolerance);
            }
        });
    }

    private DifferentialAttention Operator() => new(AttentionDevice.Parse(device), new DifferentialOptions
    {
        Lambda = _golden.Number("lambda") is { } lambda ? [lambda] : null,
        LambdaInit = _golden.Number("lambda_init"),
        Scores = new ScoreOptions { Scale = _golden.Number("scale") },
        Mask = _golden.Mask,
        Epilogue = _golden.Epilogue,
    });
}
