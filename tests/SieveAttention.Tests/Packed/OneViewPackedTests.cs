using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Packed;

/// <summary>Softmax, entmax, row-function and support-basis attention of packed sequences.</summary>
[TestFixtureSource(typeof(PackedParts), nameof(PackedParts.Devices))]
internal sealed class OneViewPackedTests(AttentionDevice device)
{
    private static readonly OutputEpilogue s_epilogue = new() { Norm = OutputNorm.Rms, NormEpsilon = 1e-3 };
    private static readonly ScoreOptions s_scores = new() { RowFactor = RowFactor.Asentmax(0.4, 0.7), AlibiSlopes = [0.1, 0, 0.2, 0.3] };

    [Test]
    public void Softmax_gives_what_each_sequence_gives_alone()
    {
        AttentionInputs inputs = Inputs(out AttentionTensor dout);
        SoftmaxAttention attention = new(device, new SoftmaxOptions { Scores = s_scores, Epilogue = s_epilogue });
        using SoftmaxResult packed = attention.Forward(inputs, PackedParts.Sequences);
        foreach (int n in PackedParts.WithQueries)
        {
            using SoftmaxResult alone = attention.Forward(Alone(inputs, n));
            PackedParts.SameRows(n, (packed.Output, alone.Output), (packed.LogSumExp, alone.LogSumExp));
        }

        CheckGradients(inputs, dout, attention.Backward(inputs, dout, PackedParts.Sequences), attention.Backward);
    }

    [Test]
    public void Entmax_gives_what_each_sequence_gives_alone()
    {
        AttentionInputs inputs = Inputs(out AttentionTensor dout);
        EntmaxAttention attention = new(
            device, new EntmaxOptions { Alpha = [1.3, 1.5, 1.7, 1.9], Scores = s_scores, Epilogue = s_epilogue });
        using EntmaxResult packed = attention.Forward(inputs, PackedParts.Sequences);
        foreach (int n in PackedParts.WithQueries)
        {
            using EntmaxResult alone = attention.Forward(Alone(inputs, n));
            PackedParts.SameRows(n, (packed.Output, alone.Output), (packed.Tau, alone.Tau), (packed.Support, alone.Support));
        }

        using EntmaxGradients gradients = attention.Backward(inputs, dout, PackedParts.Sequences);
        CheckGradients(inputs, dout, gradients, attention.Backward);
        PackedParts.IsSum(
            device,
            gradients.Alpha,
            PackedParts.WithQueries.Select(n => attention.Backward(Alone(inputs, n), PackedParts.Rows(dout, n)).Alpha.ToArray()));
    }

    [Test]
    public void Factors_given_by_the_caller_are_cut_with_the_rows()
    {
        AttentionInputs inputs = Inputs(out AttentionTensor dout) with { RowFactors = new PackedParts().Rows(PackedParts.QueryHeads) };
        SoftmaxAttention attention = new(
            device,
            new SoftmaxOptions { Scores = new ScoreOptions { RowFactor = RowFactor.PerRow }, Epilogue = s_epilogue });
        using AttentionGradients packed = attention.Backward(inputs, dout, PackedParts.Sequences);
        foreach (int n in PackedParts.WithQueries)
        {
            using AttentionGradients alone = attention.Backward(Alone(inputs, n), PackedParts.Rows(dout, n));
            PackedParts.SameRows(n, (packed.RowFactor!.Rows, alone.RowFactor!.Rows));
        }
    }

    [Test]
    public void Row_functions_give_what_each_sequence_gives_alone()
    {
        AttentionInputs inputs = Inputs(out AttentionTensor dout);
        RowWeights weights = new ElasticSoftmaxWeights { Tau = [-1, -0.5, -0.2, -0.7] };
        RowFunctionAttention attention = new(
            device, new RowFunctionOptions { Weights = weights, Scores = s_scores, Epilogue = s_epilogue });
        AttentionTensor bias = Values.Tensor(Values.Normal(new Random(5), 4 * 3), new TensorShape(1, 4, 1, 3));
        RowFunctionInputs Wrap(AttentionInputs own) => new() { Attention = own, DistanceBias = bias };
        using RowFunctionResult packed = attention.Forward(Wrap(inputs), PackedParts.Sequences);
        foreach (int n in PackedParts.WithQueries)
        {
            using RowFunctionResult alone = attention.Forward(Wrap(Alone(inputs, n)));
            PackedParts.SameRows(n, (packed.Output, alone.Output));
        }

        using RowFunctionGradients gradients = attention.Backward(Wrap(inputs), dout, PackedParts.Sequences);
        CheckGradients(inputs, dout, gradients, (own, gradient) => attention.Backward(Wrap(own), gradient));
        PackedParts.IsSum(
            device,
            Values.Doubles(gradients.DistanceBias!),
            PackedParts.WithQueries.Select(
                n => Values.Doubles(attention.Backward(Wrap(Alone(inputs, n)), PackedParts.Rows(dout, n)).DistanceBias!)));
        PackedParts.IsSum(
            device,
            gradients.HeadParameter!,
            PackedParts.WithQueries.Select(
                n => attention.Backward(Wrap(Alone(inputs, n)), PackedParts.Rows(dout, n)).HeadParameter!.ToArray()));
    }

    [TestCase(null)]
    [TestCase(4)]
    public void Support_basis_gives_what_each_sequence_gives_alone(int? window)
    {
        AttentionInputs inputs = Inputs(out AttentionTensor dout);
        SupportBasisOptions options = new()
        {
            Bound = 8,
            Tile = 3,
            Mask = new AttentionMask { Window = window },
            Scores = s_scores with { AlibiSlopes = null },
            Epilogue = s_epilogue,
        };
        SupportBasisAttention attention = new(device, options);
        using SupportBasisResult packed = attention.Forward(inputs, PackedParts.Sequences);
        double least = 1;
        double most = 0;
        foreach (int n in PackedParts.WithQueries)
        {
            using SupportBasisResult alone = attention.Forward(Alone(inputs, n));
            PackedParts.SameRows(n, (packed.Output, alone.Output));
            least = Math.Min(least, alone.ExactFraction);
            most = Math.Max(most, alone.ExactFraction);
        }

        Assert.That(packed.ExactFraction, Is.InRange(least, most));
        CheckGradients(inputs, dout, attention.Backward(inputs, dout, PackedParts.Sequences), attention.Backward);
    }

    [Test]
    public void The_exact_fraction_counts_the_tiles_of_all_sequences()
    {
        // Two sequences of 4 keys with tiles of 2 have 3 visible tiles each; queries 2 and 3 of the first are long: 2 of its 3 are exact.
        PackedSequences sequences = new([0, 4, 8], [0, 4, 8]);
        AttentionTensor ones = Values.Tensor([1, 1, 1, 1, 1, 1, 1, 1], new TensorShape(1, 1, 8, 1));
        AttentionTensor query = Values.Tensor([1, 1, 9, 9, 1, 1, 1, 1], new TensorShape(1, 1, 8, 1));
        SupportBasisOptions options = new() { Bound = 2, Tile = 2 };
        using SupportBasisResult result = new SupportBasisAttention(device, options).Forward(
            new AttentionInputs { Query = query, Key = ones, Value = ones }, sequences);
        Assert.That(result.ExactFraction, Is.EqualTo(2 / 6.0).Within(1e-15));
    }

    private void CheckGradients(
        AttentionInputs inputs,
        AttentionTensor dout,
        AttentionGradients packed,
        Func<AttentionInputs, AttentionTensor, AttentionGradients> backward)
    {
        AttentionGradients[] all = PackedParts.WithQueries.Select(n => backward(Alone(inputs, n), PackedParts.Rows(dout, n))).ToArray();
        foreach ((int n, AttentionGradients alone) in PackedParts.WithQueries.Zip(all))
        {
            PackedParts.SameRows(n, (packed.Query, alone.Query), (packed.Gate, alone.Gate));
            PackedParts.SameKeys(n, (packed.Key, alone.Key), (packed.Value, alone.Value));
        }

        PackedParts.IsSum(device, Values.Doubles(packed.NormGain!), all.Select(g => Values.Doubles(g.NormGain!)));
        PackedParts.IsSum(device, packed.RowFactor!.Values, all.Select(g => g.RowFactor!.Values.ToArray()));
        PackedParts.IsSum(device, packed.RowFactor.Exponents, all.Select(g => g.RowFactor!.Exponents.ToArray()));
    }

    private static AttentionInputs Inputs(out AttentionTensor dout)
    {
        PackedParts parts = new();
        dout = parts.Output(PackedParts.QueryHeads);
        return new AttentionInputs
        {
            Query = parts.Query(),
            Key = parts.Key(),
            Value = parts.Value(),
            NormGain = parts.Gain(),
            Gate = parts.Rows(PackedParts.QueryHeads),
        };
    }

    private static AttentionInputs Alone(AttentionInputs inputs, int n) => inputs with
    {
        Query = PackedParts.Rows(inputs.Query, n),
        Key = PackedParts.Keys(inputs.Key, n),
        Value = PackedParts.Keys(inputs.Value, n),
        Gate = PackedParts.Rows(inputs.Gate!, n),
        RowFactors = inputs.RowFactors is { } factors ? PackedParts.Rows(factors, n) : null,
    };
}
