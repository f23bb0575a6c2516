using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Packed;

[TestFixtureSource(typeof(PackedParts), nameof(PackedParts.Devices))]
internal sealed class SparseSparsePackedTests(AttentionDevice device)
{
    private static readonly SparseSparseOptions s_options = new() { BlockSize = 2, BlockCount = 2, Stream = SparseSparseMode.Both };

    [Test]
    public void Both_streams_give_what_each_sequence_gives_alone()
    {
        SparseSparseInputs inputs = Inputs(out _);
        SparseSparseAttention attention = new(device, s_options);
        using SparseSparseResult packed = attention.Forward(inputs, PackedParts.Sequences);
        double loss = 0;
        foreach (int n in PackedParts.WithQueries)
        {
            using SparseSparseResult alone = attention.Forward(Alone(inputs, n));
            PackedParts.SameRows(
                n,
                (packed.SparseOutput, alone.SparseOutput),
                (packed.FullOutput, alone.FullOutput),
                (packed.SparseLogSumExp, alone.SparseLogSumExp),
                (packed.FullLogSumExp, alone.FullLogSumExp),
                (packed.BlockIndices, alone.BlockIndices));
            loss += Values.Doubles(alone.AlignmentLoss!)[0] * PackedParts.Sequences.Queries(n).Count / 13;
        }

        Assert.That(loss, Is.Positive);
        Assert.That(Values.Doubles(packed.AlignmentLoss!)[0], Is.EqualTo(loss).Within(1e-6 * loss));
    }

    [Test]
    public void The_alignment_gradient_is_that_of_one_mean_over_all_rows()
    {
        SparseSparseInputs inputs = Inputs(out AttentionTensor dout);
        SparseSparseOptions options = s_options with { Stream = SparseSparseMode.Sparse, AlignmentWeight = 26 };
        using SparseSparseGradients packed = new SparseSparseAttention(device, options).Backward(
            inputs, dout, PackedParts.Sequences);
        foreach (int n in PackedParts.WithQueries)
        {
            // 26 times a mean over 13 rows is 2 times a sum over rows: for a sequence of k rows, 2 k times its own mean.
            int rows = PackedParts.Sequences.Queries(n).Count;
            SparseSparseAttention own = new(device, options with { AlignmentWeight = 2 * rows });
            using SparseSparseGradients alone = own.Backward(Alone(inputs, n), PackedParts.Rows(dout, n));
            PackedParts.SameRows(n, (packed.Query, alone.Query), (packed.Gate, alone.Gate));
            PackedParts.SameKeys(n, (packed.Key, alone.Key), (packed.Value, alone.Value));
        }
    }

    private static SparseSparseInputs Inputs(out AttentionTensor dout)
    {
        PackedParts parts = new();
        dout = parts.Output(PackedParts.QueryHeads);
        return new SparseSparseInputs
        {
            Query = parts.Query(),
            Key = parts.Key(),
            Value = parts.Value(),
            Gate = parts.Rows(PackedParts.QueryHeads),
        };
    }

    private static SparseSparseInputs Alone(SparseSparseInputs inputs, int n) => inputs with
    {
        Query = PackedParts.Rows(inputs.Query, n),
        Key = PackedParts.Keys(inputs.Key, n),
        Value = PackedParts.Keys(inputs.Value, n),
        Gate = PackedParts.Rows(inputs.Gate!, n),
    };
}
