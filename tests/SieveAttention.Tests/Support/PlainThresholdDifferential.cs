namespace SieveAttention.Tests.Support;

/// <summary>
/// Threshold differential attention as ordinary tensor arithmetic of a 16-bit type would compute it: operands as stored,
/// products accumulated in float32, the matrix of weights rounded to the type before the value product, the output rounded.
/// The yardstick for kernels: their error may be at most twice that of this evaluation.
/// </summary>
internal static class PlainThresholdDifferential
{
    public static double[] Forward(ThresholdCase test, ThresholdDifferentialInputs inputs, TensorType type)
    {
        return Forward(test.Problem, test.Options, inputs, type);
    }

    public static double[] Forward(
        AttentionProblem problem, ThresholdDifferentialOptions options, ThresholdDifferentialInputs inputs, TensorType type)
    {
        HostArray<float> q1 = HostArray<float>.Read(inputs.Query1);
        HostArray<float> k1 = HostArray<float>.Read(inputs.Key1);
        HostArray<float>? q2 = inputs.Query2 is null ? null : HostArray<float>.Read(inputs.Query2);
        HostArray<float>? k2 = inputs.Key2 is null ? null : HostArray<float>.Read(inputs.Key2);
        HostArray<float> v = HostArray<float>.Read(inputs.Value);
        float[]? gain = inputs.NormGain is null ? null : HostArray<float>.Read(inputs.NormGain).Data;
        HostArray<float>? gate = inputs.Gate is null ? null : HostArray<float>.Read(inputs.Gate);
        HostArray<double> output = new(problem.OutputShape);
        for (int b = 0; b < problem.Batch; b++)
        {
            for (int h = 0; h < problem.QueryHeads; h++)
            {
                int kv = problem.KeyHead(h);
                float[] keyNorms1 = Norms(k1, b, kv);
                float[]? keyNorms2 = k2 is null ? null : Norms(k2, b, kv);
                for (int i = 0; i < problem.Queries; i++)
                {
                    KeyRange visible = problem.Visible(i);
                    float tau = (float)options.Beta * MathF.Sqrt(
                        2 * MathF.Max(MathF.Log(Math.Max(visible.Count, 1) / (float)options.Kappa), 0) / problem.HeadDim);
                    float queryNorm1 = Norm(q1.Row(b, h, i));
                    float queryNorm2 = q2 is null ? 0 : Norm(q2.Row(b, h, i));
                    float[] x = new float[problem.ValueDim];
                    for (int j = visible.First; j < visible.End; j++)
                    {
                        float w = Weight(q1.Row(b, h, i), k1.Row(b, kv, j), queryNorm1 * keyNorms1[j], tau, options.Power);
                        if (q2 is not null && options.Lambda != 0)
                        {
                            w -= (float)options.Lambda
                                * Weight(q2.Row(b, h, i), k2!.Row(b, kv, j), queryNorm2 * keyNorms2![j], tau, options.Power);
                        }

                        float rounded = (float)Values.Round(w, type);
                        Span<float> value = v.Row(b, kv, j);
                        for (int c = 0; rounded != 0 && c < x.Length; c++)
                        {
                            x[c] += rounded * value[c];
                        }
                    }

                    Epilogue(options.Epilogue, x, gain, gate?.Row(b, h, i)[0]);
                    Span<double> row = output.Row(b, h, i);
                    for (int c = 0; c < x.Length; c++)
                    {
                        row[c] = Values.Round(x[c], type);
                    }
                }
            }
        }

        return output.Data;
    }

    private static float Weight(ReadOnlySpan<float> q, ReadOnlySpan<float> k, float norms, float tau, double power)
    {
        float s = 0;
        for (int c = 0; c < q.Length; c++)
        {
            s += q[c] * k[c];
        }

        float e = (s / norms) - tau;
        return e <= 0 ? 0 : MathF.Pow(e, (float)power);
    }

    private static float[] Norms(HostArray<float> k, int batch, int head)
    {
        float[] norms = new float[k.Shape.Rows];
        for (int j = 0; j < norms.Length; j++)
        {
            norms[j] = Norm(k.Row(batch, head, j));
        }

        return norms;
    }

    private static float Norm(ReadOnlySpan<float> x)
    {
        float sum = 0;
        foreach (float element in x)
        {
            sum += element * element;
        }

        return MathF.Max(MathF.Sqrt(sum), 1e-12f);
    }

    private static void Epilogue(OutputEpilogue epilogue, Span<float> x, float[]? gain, float? gate)
    {
        float factor = (float)epilogue.OutputScale;
        if (epilogue.Norm == OutputNorm.Rms)
        {
            float sum = 0;
            foreach (float element in x)
            {
                sum += element * element;
            }

            factor /= MathF.Sqrt((sum / x.Length) + (float)epilogue.NormEpsilon!.Value);
        }

        if (gate is { } logit)
        {
            factor /= 1 + MathF.Exp(-logit);
        }

        for (int c = 0; c < x.Length; c++)
        {
            x[c] *= factor * (gain is null ? 1 : gain[c]);
        }
    }
}
