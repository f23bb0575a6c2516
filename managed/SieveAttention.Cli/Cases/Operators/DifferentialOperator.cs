namespace SieveAttention.Cli.Cases.Operators;

/// <summary>Reads cases of differential attention, <c>op = diff</c>.</summary>
internal sealed class DifferentialOperator : CaseOperator
{
    /// <summary>How far a finished lambda may be from that of the vectors beside it: models store it rounded.</summary>
    private const double Agreement = 1e-4;

    /// <inheritdoc/>
    public override string Name => DifferentialCase.OperatorName;

    /// <inheritdoc/>
    public override AttentionCase Read(string file, CaseMetadata metadata, CaseTensors tensors)
    {
        double? lambda = metadata.OptionalNumber("lambda");
        double? init = metadata.OptionalNumber("lambda_init");
        DifferentialOptions options = new()
        {
            Lambda = lambda is { } finished ? [finished] : null,
            LambdaInit = init,
            Scores = CommonParts.ReadScale(metadata),
            Mask = CommonParts.ReadMask(metadata),
            Epilogue = CommonParts.ReadEpilogue(metadata),
        };
        AttentionProblem problem = CommonParts.ReadView(tensors, "q1", "k1", "v", options.Mask);
        CaseInputs inputs = CommonParts.ReadTwoViews(file, tensors, problem, options.Epilogue);
        StoredTensor? vectors = tensors.Optional("lambda_vectors", [4, problem.HeadDim]);
        if (vectors is null)
        {
            metadata.RefuseWithout("lambda_init", isThere: false, "tensor 'lambda_vectors'");
            return lambda is null
                ? throw metadata.Missing(
                    "lambda", $"{CaseNumber.Description}, finite; or 'lambda_init' with tensor 'lambda_vectors' (one of both is required)")
                : new DifferentialCase(file, problem, inputs, options);
        }
        if (init is not { } constant)
        {
            throw metadata.Missing("lambda_init", $"{CaseNumber.Description}, finite (required with tensor 'lambda_vectors')");
        }
        double computed = Lambda(vectors, constant);
        if (!double.IsFinite(computed))
        {
            throw tensors.Refuse("lambda_vectors", FormattableString.Invariant($"vectors of lambda {computed}"), "a finite lambda");
        }
        if (lambda is { } given && Math.Abs(given - computed) > Agreement)
        {
            throw metadata.Refuse(
                "lambda",
                Text.Quote(metadata.Text("lambda")!),
                FormattableString.Invariant($"{computed} within {Agreement}, from 'lambda_init' and tensor 'lambda_vectors'"));
        }
        inputs.AddOther(vectors);
        return new DifferentialCase(file, problem, inputs, options);
    }

    /// <summary>exp(lq1 . lk1) - exp(lq2 . lk2) + lambda_init.</summary>
    private static double Lambda(StoredTensor vectors, double init)
    {
        double[] values = vectors.ToDoubles();
        int channels = vectors.Shape[1];
        double[] dots = [0, 0];
        for (int channel = 0; channel < channels; channel++)
        {
            dots[0] += values[channel] * values[channels + channel];
            dots[1] += values[(2 * channels) + channel] * values[(3 * channels) + channel];
        }
        return Math.Exp(dots[0]) - Math.Exp(dots[1]) + init;
    }
}
