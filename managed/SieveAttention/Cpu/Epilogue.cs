using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu;

/// <summary>
/// What follows attention in every operator, one output row at a time: RMSNorm with gain, output scale, sigmoid gate, in this order.
/// Row statistics are kept in double: outputs of thresholded attention are small enough for their squares to lose digits in float.
/// </summary>
/// <param name="parameters">Norm, epsilon and output scale.</param>
/// <param name="normGain">Gain of the norm, one a channel; null = all ones.</param>
/// <param name="gate">Gate logits, one a row; null = no gate.</param>
internal sealed class Epilogue(EpilogueParameters parameters, float[]? normGain, HostArray<float>? gate)
{
    internal bool HasNormGain => normGain is not null;

    internal bool HasGate => gate is not null;

    /// <summary>out = sigmoid(gate) * scale * gain * x * r with r = (mean x^2 + epsilon)^(-1/2), or r = 1 without a norm.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Forward(ReadOnlySpan<float> x, int batch, int head, int row, Span<float> output)
    {
        double factor = parameters.OutputScale * InverseRms(x) * Opening(batch, head, row);
        RowMath.Scale(x, (float)factor, output);
        if (normGain is not null)
        {
            RowMath.Multiply(normGain, output);
        }
    }

    /// <summary>Gradient of one row.</summary>
    /// <param name="x">The row before the epilogue.</param>
    /// <param name="dout">Gradient of the row after it.</param>
    /// <param name="batch">Entry of the batch.</param>
    /// <param name="head">Query head.</param>
    /// <param name="row">Query row.</param>
    /// <param name="dx">Receives the gradient of x.</param>
    /// <param name="dgain">The gradient of the gain is added here; empty without a gain.</param>
    /// <returns>The gradient of the gate's logit; 0 without a gate.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal double Backward(
        ReadOnlySpan<float> x, ReadOnlySpan<float> dout, int batch, int head, int row, Span<float> dx, Span<double> dgain)
    {
        double r = InverseRms(x);
        double opening = Opening(batch, head, row);
        double factor = parameters.OutputScale * opening;
        double inner = 0;
        for (int c = 0; c < x.Length; c++)
        {
            inner += (double)x[c] * dout[c] * Gain(c);
        }

        // h = scale * opening * gain * dout;  dx = r h - x r^3 (x . h) / channels
        double projection = parameters.Norm == OutputNorm.Rms ? factor * r * r * r * inner / x.Length : 0;
        for (int c = 0; c < x.Length; c++)
        {
            dx[c] = (float)((factor * r * Gain(c) * dout[c]) - (projection * x[c]));
        }

        for (int c = 0; c < dgain.Length; c++)
        {
            dgain[c] += factor * r * x[c] * dout[c];
        }

        return HasGate ? opening * (1 - opening) * parameters.OutputScale * r * inner : 0;
    }

    private double Gain(int channel) => normGain is null ? 1 : normGain[channel];

    /// <summary>1 without a norm. A row of zeros stays zero also where epsilon is 0.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private double InverseRms(ReadOnlySpan<float> x)
    {
        if (parameters.Norm == OutputNorm.None)
        {
            return 1;
        }

        double square = (RowMath.SumOfSquares(x) / x.Length) + parameters.NormEpsilon;
        return square == 0 ? 0 : 1 / Math.Sqrt(square);
    }

    private double Opening(int batch, int head, int row) =>
        gate is null ? 1 : 1 / (1 + Math.Exp(-(double)gate.Row(batch, head, row)[0]));
}
