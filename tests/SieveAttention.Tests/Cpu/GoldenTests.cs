using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Cpu;

/// <summary>Golden cases: outputs within 2e-4 and gradients within 1e-3 of the largest expected magnitude, integers exactly.</summary>
[TestFixture("tda-causal")]
[TestFixture("tda-gqa-norm")]
internal sealed class GoldenTests(string name)
{
    private readonly GoldenCase _golden = GoldenCase.Load("golden", name);

    [Test]
    public void Forward_reproduces_output_and_survivors()
    {
        (AttentionProblem problem, ThresholdDifferentialParameters parameters, ThresholdDifferentialInputs inputs) = Load();
        ThresholdDifferentialForward<float> result = SieveAttention.Cpu.ThresholdDifferential.Forward(
            problem, parameters, Read(inputs.Query1)!, Read(inputs.Key1)!, Read(inputs.Query2), Read(inputs.Key2), Read(inputs.Value)!,
            Read(inputs.NormGain)?.Data, Read(inputs.Gate));
        AssertClose("out", result.Output.Data, 2e-4);
        Assert.That(Array.ConvertAll(result.Survivors1, count => (double)count), Is.EqualTo(_golden.Expected("survivors1")));
        Assert.That(Array.ConvertAll(result.Survivors2!, count => (double)count), Is.EqualTo(_golden.Expected("survivors2")));
    }

    [Test]
    public void Backward_reproduces_every_gradient()
    {
        (AttentionProblem problem, ThresholdDifferentialParameters parameters, ThresholdDifferentialInputs inputs) = Load();
        ThresholdDifferentialBackward<float> result = SieveAttention.Cpu.ThresholdDifferential.Backward(
            problem, parameters, Read(inputs.Query1)!, Read(inputs.Key1)!, Read(inputs.Query2), Read(inputs.Key2), Read(inputs.Value)!,
            Read(inputs.NormGain)?.Data, Read(inputs.Gate), Read(_golden.OutputGradient)!);
        AssertClose("dq1", result.Query1.Data, 1e-3);
        AssertClose("dk1", result.Key1.Data, 1e-3);
        AssertClose("dq2", result.Query2!.Data, 1e-3);
        AssertClose("dk2", result.Key2!.Data, 1e-3);
        AssertClose("dv", result.Value.Data, 1e-3);
        AssertClose("dbeta", [(float)result.Beta.Sum()], 1e-3);
        AssertClose("dkappa", [(float)result.Kappa], 1e-3);
        AssertClose("dlambda", [(float)result.Lambda.Sum()], 1e-3);
        if (inputs.NormGain is not null)
        {
            AssertClose("dnorm_gain", result.NormGain!, 1e-3);
        }
    }

    private static HostArray<float>? Read(AttentionTensor? tensor) => tensor is null ? null : HostArray<float>.Read(tensor);

    private (AttentionProblem Problem, ThresholdDifferentialParameters Parameters, ThresholdDifferentialInputs Inputs) Load()
    {
        ThresholdDifferentialInputs inputs = _golden.Inputs;
        TensorShape q = inputs.Query1.Shape;
        TensorShape v = inputs.Value.Shape;
        AttentionMask mask = _golden.Options.Mask;
        AttentionProblem problem = new(
            q.Batch, q.Heads, v.Heads, q.Rows, v.Rows, q.Channels, v.Channels, mask.Causal,
            mask.QueryOffset ?? v.Rows - q.Rows, mask.Window ?? 0);
        return (problem, _golden.Options.ToParameters(q.Heads), inputs);
    }

    private void AssertClose(string tensor, float[] actual, double tolerance)
    {
        Deviation deviation = Deviation.Of(Array.ConvertAll(actual, value => (double)value), _golden.Expected(tensor));
        Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{tensor}: {deviation}");
    }
}
