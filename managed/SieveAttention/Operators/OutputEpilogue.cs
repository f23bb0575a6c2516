using System.Numerics;

namespace SieveAttention;

/// <summary>Normalization of an output row.</summary>
public enum OutputNorm
{
    /// <summary>None.</summary>
    None,

    /// <summary>RMSNorm over the value channels of a head: x * (mean(x^2) + epsilon)^(-1/2) * gain.</summary>
    Rms,
}

/// <summary>
/// What happens to an output row after attention, in this order: norm and gain, output scale, sigmoid gate. Gain and gate are
/// tensors and given with the inputs. Immutable.
/// </summary>
public sealed record OutputEpilogue
{
    /// <summary>Normalization of a row.</summary>
    public OutputNorm Norm { get; init; } = OutputNorm.None;

    /// <summary>
    /// Added to the mean square, at least 0; required with <see cref="OutputNorm.Rms"/>, because outputs of thresholded attention
    /// are small enough for it to matter. Without a norm it has no meaning.
    /// </summary>
    public double? NormEpsilon { get; init; }

    /// <summary>Factor of the output after the norm, finite.</summary>
    public double OutputScale { get; init; } = 1;

    /// <summary>Checks the values.</summary>
    internal void Validate()
    {
        Guard.Defined(Norm, nameof(Norm));
        if (NormEpsilon is { } epsilon)
        {
            Guard.AtLeast(0, epsilon, nameof(NormEpsilon));
        }
        else if (Norm == OutputNorm.Rms)
        {
            throw Guard.OutOfRange(nameof(NormEpsilon), "absent", "a finite number of at least 0, because Norm is Rms");
        }

        Guard.Finite(OutputScale, nameof(OutputScale));
    }

    internal EpilogueParameters ToParameters() => new(Norm, NormEpsilon ?? 0, OutputScale);
}

/// <summary>The constants of the epilogue as the implementations take them.</summary>
internal sealed record EpilogueParameters(OutputNorm Norm, double NormEpsilon, double OutputScale)
{
    internal static EpilogueParameters None { get; } = new(OutputNorm.None, 0, 1);

    /// <summary>Whether an output row stays as it is where it has no gate.</summary>
    internal bool IsIdentity => Norm == OutputNorm.None && OutputScale == 1;
}

/// <summary>Gradients of the epilogue.</summary>
/// <param name="Output">Gradient of the output before the epilogue.</param>
/// <param name="NormGain">Gradient of the gain, [value_dim]; null without a gain.</param>
/// <param name="Gate">Gradient of the gate's logits, one a row; null without a gate.</param>
internal sealed record EpilogueGradients<T>(HostArray<T> Output, T[]? NormGain, HostArray<T>? Gate)
    where T : unmanaged, IFloatingPointIeee754<T>;
