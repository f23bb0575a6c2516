namespace SieveAttention.Tests.Support;

/// <summary>
/// Softmax attention as the formulas say it, with a mask test for each pair; independent of the implementations under test.
/// </summary>
internal static class SoftmaxDefinition
{
    /// <summary>Output [B, Hq, Tq, Dv] and log-sum-exp [B, Hq, Tq].</summary>
    public static (HostArray<double> Output, double[] LogSumExp) Forward(
        AttentionMask mask, ScoreOptions scores, HostArray<double> q, HostArray<double> k, HostArray<double> v)
    {
        TensorShape shape = q.Shape;
        int keys = k.Shape.Rows;
        double scale = scores.Scale ?? (1 / Math.Sqrt(shape.Channels));
        long offset = mask.QueryOffset ?? (keys - shape.Rows);
        HostArray<double> output = new(shape with { Channels = v.Shape.Channels });
        List<double> logSumExp = [];
        for (int b = 0; b < shape.Batch; b++)
        {
            for (int h = 0; h < shape.Heads; h++)
            {
                int kv = h * k.Shape.Heads / shape.Heads;
                double slope = scores.AlibiSlopes is null ? 0 : scores.AlibiSlopes[h];
                for (int i = 0; i < shape.Rows; i++)
                {
                    double sum = 0;
                    double[] x = new double[v.Shape.Channels];
                    for (int j = 0; j < keys; j++)
                    {
                        if (!Scores.IsVisible(mask, shape.Rows, keys, i, j))
                        {
                            continue;
                        }

                        double product = 0;
                        for (int c = 0; c < shape.Channels; c++)
                        {
                            product += q.Row(b, h, i)[c] * k.Row(b, kv, j)[c];
                        }

                        double e = Math.Exp((scale * product) - (slope * (i + offset - j)));
                        sum += e;
                        for (int c = 0; c < x.Length; c++)
                        {
                            x[c] += e * v.Row(b, kv, j)[c];
                        }
                    }

                    for (int c = 0; sum > 0 && c < x.Length; c++)
                    {
                        output.Row(b, h, i)[c] = x[c] / sum;
                    }

                    logSumExp.Add(Math.Log(sum));
                }
            }
        }

        return (output, [.. logSumExp]);
    }

    /// <summary>Norm with gain, output scale and gate of the rows x.</summary>
    public static double[] Epilogue(OutputEpilogue epilogue, AttentionTensor? normGain, AttentionTensor? gate, HostArray<double> x)
    {
        double[]? gain = normGain is null ? null : Values.Doubles(normGain);
        double[]? logits = gate is null ? null : Values.Doubles(gate);
        int channels = x.Shape.Channels;
        double[] y = new double[x.Data.Length];
        for (int row = 0; row < y.Length / channels; row++)
        {
            double[] values = x.Data[(row * channels)..((row + 1) * channels)];
            double r = epilogue.Norm == OutputNorm.Rms
                ? Math.Pow(values.Average(value => value * value) + epilogue.NormEpsilon!.Value, -0.5)
                : 1;
            double opening = logits is null ? 1 : 1 / (1 + Math.Exp(-logits[row]));
            for (int c = 0; c < channels; c++)
            {
                y[(row * channels) + c] = opening * epilogue.OutputScale * (gain?[c] ?? 1) * r * values[c];
            }
        }

        return y;
    }
}
