using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Reference;

[TestFixture("tda-causal")]
[TestFixture("tda-gqa-norm")]
internal sealed class ThresholdDifferentialGoldenTests(string name)
{
    private readonly GoldenCase _golden = GoldenCase.Load("golden", name);

    [Test]
    public void Forward_reproduces_the_output()
    {
        using ThresholdDifferentialResult result = Operator().Forward(_golden.Inputs);
        Assert.That(Deviation.Of(Values.Doubles(result.Output), _golden.Expected("out")).Relative, Is.LessThanOrEqualTo(1e-9));
    }

    [Test]
    public void Forward_counts_exactly_the_expected_survivors()
    {
        using ThresholdDifferentialResult result = Operator().Forward(_golden.Inputs);
        Assert.Multiple(() =>
        {
            Assert.That(Counts(result.Survivors1), Is.EqualTo(_golden.Expected("survivors1")));
            Assert.That(Counts(result.Survivors2!), Is.EqualTo(_golden.Expected("survivors2")));
            Assert.That(Counts(result.Survivors1).Sum(), Is.GreaterThan(0), "a case without survivors would prove nothing");
        });
    }

    [Test]
    public void Backward_reproduces_every_gradient()
    {
        ThresholdDifferentialInputs inputs = _golden.Inputs;
        using ThresholdDifferentialGradients gradients = Operator().Backward(inputs, _golden.OutputGradient);
        Assert.Multiple(() =>
        {
            AssertGradient("dq1", Values.Doubles(gradients.Query1));
            AssertGradient("dk1", Values.Doubles(gradients.Key1));
            AssertGradient("dq2", Values.Doubles(gradients.Query2!));
            AssertGradient("dk2", Values.Doubles(gradients.Key2!));
            AssertGradient("dv", Values.Doubles(gradients.Value));
            AssertGradient("dbeta", [gradients.Beta]);
            AssertGradient("dkappa", [gradients.Kappa]);
            AssertGradient("dlambda", [gradients.Lambda]);
            if (inputs.NormGain is not null)
            {
                AssertGradient("dnorm_gain", Values.Doubles(gradients.NormGain!));
            }
        });
    }

    private static double[] Counts(AttentionTensor tensor) => Array.ConvertAll(tensor.AsSpan<int>().ToArray(), count => (double)count);

    private ThresholdDifferentialAttention Operator() => new(AttentionDevice.Reference, _golden.Options);

    private void AssertGradient(string name, double[] actual) =>
        Assert.That(Deviation.Of(actual, _golden.Expected(name)).Relative, Is.LessThanOrEqualTo(1e-8), name);
}
