using System.Numerics.Tensors;

namespace SieveAttention.Cli.Verification;

/// <summary>
/// The rows of differential attention in a 16-bit type without any care: the outputs of both streams, their difference and the gradients of the
/// streams' outputs are rounded to the type, sums are float32.
/// </summary>
internal sealed class PlainDifferential(TensorType type, PlainEpilogue epilogue)
{
    /// <summary>An epilogue that does nothing: that of the streams.</summary>
    public static PlainEpilogue None { get; } = new(new OutputEpilogue(), null, null);

    /// <summary>The heads of an output head's streams, and the weight of the second in a row of it.</summary>
    /// <param name="First">Head of the first stream's output.</param>
    /// <param name="Second">Head of the second stream's output.</param>
    /// <param name="Weight">By batch entry and row.</param>
    internal readonly record struct Pair(int First, int Second, Func<int, int, float> Weight);

    /// <summary>Gradients of the outputs of the streams, and of what belongs to rows.</summary>
    internal sealed record Gradients(
        HostArray<float> First, HostArray<float> Second, HostArray<float> Weight, float[] NormGain, HostArray<float> Gate);

    /// <summary>
    /// Gradients from the outputs of the streams. Where both are heads of one tensor, their gradients are one array as well.
    /// </summary>
    public Gradients Backward(HostArray<float> first, HostArray<float> second, Func<int, Pair> pairs, HostArray<float> upstream)
    {
        HostArray<float> dFirst = new(first.Shape);
        HostArray<float> dSecond = ReferenceEquals(first, second) ? dFirst : new(second.Shape);
        TensorShape rows = upstream.Shape with { Channels = 1 };
        Gradients result = new(dFirst, dSecond, new(rows), new float[upstream.Shape.Channels], new(rows));
        float[] x = new float[upstream.Shape.Channels];
        for (int b = 0; b < rows.Batch; b++)
        {
            for (int h = 0; h < rows.Heads; h++)
            {
                for (int i = 0; i < rows.Rows; i++)
                {
                    Add(result, first, second, pairs(h), upstream.Row(b, h, i), x, b, h, i);
                }
            }
        }
        return result;
    }

    private void Add(
        Gradients result, HostArray<float> first, HostArray<float> second, Pair pair, ReadOnlySpan<float> upstream, float[] x, int b, int h, int i)
    {
        ReadOnlySpan<float> subtrahend = second.Row(b, pair.Second, i);
        float weight = pair.Weight(b, i);
        first.Row(b, pair.First, i).CopyTo(x);
        TensorPrimitives.MultiplyAdd(subtrahend, -weight, x, x);
        for (int c = 0; c < x.Length; c++)
        {
            x[c] = PlainEvaluation.Round(x[c], type);
        }
        float gate = 1;
        if (epilogue.Gate is { } logits)
        {
            gate = 1 / (1 + MathF.Exp(-logits[(((b * result.Gate.Shape.Heads) + h) * result.Gate.Shape.Rows) + i]));
        }
        bool norm = epilogue.Constants.Norm == OutputNorm.Rms;
        float meanSquare = TensorPrimitives.SumOfSquares<float>(x) / x.Length;
        float inverse = !norm ? 1 : meanSquare == 0 ? 0 : 1 / MathF.Sqrt(meanSquare + (float)epilogue.Constants.NormEpsilon!.Value);
        float factor = (float)epilogue.Constants.OutputScale * gate * inverse;
        float dot = 0;
        for (int c = 0; c < x.Length; c++)
        {
            dot += upstream[c] * Gain(c) * x[c];
            result.NormGain[c] += factor * upstream[c] * x[c];
        }
        result.Gate.Row(b, h, i)[0] = (1 - gate) * factor * dot;
        Span<float> minuend = result.First.Row(b, pair.First, i);
        Span<float> noise = result.Second.Row(b, pair.Second, i);
        float along = norm ? inverse * inverse * dot / x.Length : 0;
        float minus = 0;
        for (int c = 0; c < x.Length; c++)
        {
            float dx = PlainEvaluation.Round(factor * ((upstream[c] * Gain(c)) - (along * x[c])), type);
            minuend[c] = dx;
            noise[c] = PlainEvaluation.Round(noise[c] - (weight * dx), type);
            minus -= dx * subtrahend[c];
        }
        result.Weight.Row(b, h, i)[0] = minus;
    }

    private float Gain(int channel) => epilogue.NormGain is { } gain ? gain[channel] : 1;
}
