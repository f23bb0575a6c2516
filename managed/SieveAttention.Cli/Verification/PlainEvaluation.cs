using System.Numerics.Tensors;

namespace SieveAttention.Cli.Verification;

/// <summary>Computes the weights of a query row for all keys in float32, 0 where a key is not visible.</summary>
internal delegate void PlainWeights(int batch, int head, int row, Span<float> weights);

/// <summary>The epilogue of an operator, in float32.</summary>
/// <param name="Constants">Norm and output scale.</param>
/// <param name="NormGain">Gain, one for each value channel; absent = 1.</param>
/// <param name="Gate">Logits of the gate, one for each output row; absent = no gate.</param>
internal sealed record PlainEpilogue(OutputEpilogue Constants, float[]? NormGain, float[]? Gate);

/// <summary>
/// What an implementation without any care gives in a 16-bit type: operands as given, scores and sums in float32, weights
/// rounded to the type before the product with the values, output rounded to the type. A kernel of that type is held to at
/// most twice the error of this.
/// </summary>
internal static class PlainEvaluation
{
    /// <summary>Computes the output [batch, query heads, queries, value_dim], rounded to the type, in float32.</summary>
    public static float[] Run(
        TensorType type, AttentionProblem problem, PlainWeights weights, HostArray<float> values, PlainEpilogue epilogue)
    {
        HostArray<float> output = new(problem.OutputShape);
        int rows = problem.Batch * problem.QueryHeads * problem.Queries;
        Parallel.For(0, rows, () => new float[problem.Keys], (index, _, row) =>
        {
            int query = index % problem.Queries;
            int head = index / problem.Queries % problem.QueryHeads;
            int batch = index / problem.Queries / problem.QueryHeads;
            weights(batch, head, query, row);
            Span<float> target = output.Row(batch, head, query);
            KeyRange visible = problem.Visible(query);
            ReadOnlySpan<float> headValues = values.Head(batch, problem.KeyHead(head));
            for (int key = visible.First; key < visible.End; key++)
            {
                float weight = Round(row[key], type);
                if (weight != 0)
                {
                    TensorPrimitives.MultiplyAdd(
                        headValues.Slice(key * problem.ValueDim, problem.ValueDim), weight, target, target);
                }
            }
            Finish(target, index, epilogue);
            Round(target, type);
            return row;
        }, _ => { });
        return output.Data;
    }

    /// <summary>Rounds a value to a type and back.</summary>
    public static float Round(float value, TensorType type) => type switch
    {
        TensorType.Float16 => (float)(Half)value,
        TensorType.BFloat16 => (BFloat16)value,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "allowed: Float16, BFloat16"),
    };

    /// <summary>
    /// What even a perfect result may differ by where an output passes through a sum of order one in the type:
    /// 2 max|(ref + .3) - .3 - ref|, every step rounded to the type.
    /// </summary>
    public static double Floor(ReadOnlySpan<double> reference, TensorType type)
    {
        float shift = Round(0.3f, type);
        double largest = 0;
        foreach (double exact in reference)
        {
            float value = Round((float)exact, type);
            float back = Round(Round(value + shift, type) - shift, type);
            largest = Math.Max(largest, Math.Abs((double)back - value));
        }
        return 2 * largest;
    }

    private static void Round(Span<float> row, TensorType type)
    {
        for (int channel = 0; channel < row.Length; channel++)
        {
            row[channel] = Round(row[channel], type);
        }
    }

    /// <summary>Norm and gain, then output scale, then gate.</summary>
    private static void Finish(Span<float> row, int index, PlainEpilogue epilogue)
    {
        if (epilogue.Constants.Norm == OutputNorm.Rms)
        {
            float meanSquare = TensorPrimitives.SumOfSquares<float>(row) / row.Length;
            // A row of zeros stays 0, also where eps is 0.
            float inverse = meanSquare == 0 ? 0 : 1 / MathF.Sqrt(meanSquare + (float)epilogue.Constants.NormEpsilon!.Value);
            TensorPrimitives.Multiply(row, inverse, row);
            if (epilogue.NormGain is { } gain)
            {
                TensorPrimitives.Multiply(row, gain, row);
            }
        }
        TensorPrimitives.Multiply(row, (float)epilogue.Constants.OutputScale, row);
        if (epilogue.Gate is { } gate)
        {
            TensorPrimitives.Multiply(row, 1 / (1 + MathF.Exp(-gate[index])), row);
        }
    }
}
