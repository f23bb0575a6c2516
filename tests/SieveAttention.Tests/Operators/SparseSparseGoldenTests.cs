using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Operators;

/// <summary>Golden cases through the public class: every expected result of a file, block indices exactly.</summary>
[TestFixture("ssa-exact", "reference", 1e-9, 1e-8)]
[TestFixture("ssa-exact", "cpu", 2e-4, 1e-3)]
[TestFixture("ssa-released-both", "reference", 1e-9, 1e-8)]
[TestFixture("ssa-released-both", "cpu", 2e-4, 1e-3)]
internal sealed class SparseSparseGoldenTests(string name, string device, double outputTolerance, double gradientTolerance)
{
    private readonly SparseSparseGolden _golden = SparseSparseGolden.Load("golden", name);

    [Test]
    public void Every_expected_result_is_reproduced()
    {
        SparseSparseAttention attention = new(AttentionDevice.Parse(device), _golden.Options);
        using SparseSparseResult result = attention.Forward(_golden.Inputs);
        using SparseSparseGradients gradients = _golden.Options.Stream == SparseSparseMode.Both
            ? attention.Backward(_golden.Inputs, _golden.Tensor("dout_sparse"), _golden.Tensor("dout_full"))
            : attention.Backward(_golden.Inputs, _golden.Tensor("dout")!);
        Dictionary<string, AttentionTensor?> actual = new()
        {
            ["out"] = result.SparseOutput ?? result.FullOutput,
            ["out_sparse"] = result.SparseOutput,
            ["out_full"] = result.FullOutput,
            ["lse_sparse"] = result.SparseLogSumExp,
            ["lse_full"] = result.FullLogSumExp,
            ["block_indices"] = result.BlockIndices,
            ["alignment_loss"] = result.AlignmentLoss,
            ["dq"] = gradients.Query,
            ["dk"] = gradients.Key,
            ["dv"] = gradients.Value,
            ["dgate"] = gradients.Gate,
        };
        Assert.Multiple(() =>
        {
            foreach (string tensor in _golden.ExpectedNames)
            {
                if (tensor == "block_indices")
                {
                    int[] expected = Array.ConvertAll(_golden.Expected(tensor), index => (int)index);
                    Assert.That(actual[tensor]!.AsSpan<int>().ToArray(), Is.EqualTo(expected));
                    continue;
                }

                double tolerance = tensor.StartsWith('d') ? gradientTolerance : outputTolerance;
                Deviation deviation = Deviation.Of(Values.Doubles(actual[tensor]!), _golden.Expected(tensor));
                Assert.That(deviation.Relative, Is.LessThanOrEqualTo(tolerance), $"{tensor}: {deviation}");
            }
        });
    }
}
