namespace SieveAttention.Cli.Pictures;

/// <summary>
/// The colours of weights: white for exactly 0, warm for positive, blue for negative ones, darker with magnitude. The scale is
/// the cube root of the magnitude: weights of a thresholded head span several powers of ten.
/// </summary>
internal sealed class WeightColors(double largestMagnitude)
{
    private static readonly Color[] s_positive = [new(255, 214, 170), new(246, 140, 60), new(206, 45, 38), new(96, 0, 32)];
    private static readonly Color[] s_negative = [new(186, 220, 250), new(82, 160, 222), new(24, 86, 176), new(10, 26, 92)];
    private static readonly Color s_masked = new(228, 230, 236);
    private static readonly Color s_maskedLine = new(207, 210, 219);

    /// <summary>Magnitude at the dark end.</summary>
    public double LargestMagnitude => largestMagnitude;

    /// <summary>Where a magnitude stands on the scale, 0 to 1.</summary>
    public double Position(double magnitude) =>
        largestMagnitude > 0 ? Math.Cbrt(Math.Min(Math.Abs(magnitude) / largestMagnitude, 1)) : 0;

    /// <summary>The colour of a weight.</summary>
    public Color Of(double weight)
    {
        if (double.IsNaN(weight))
        {
            return Color.Ink;
        }
        return weight == 0 ? Color.White : Ramp(weight > 0 ? s_positive : s_negative, Position(weight));
    }

    /// <summary>The hatched area of pairs that no query sees, at a pixel.</summary>
    public static Color Masked(int x, int y) => (x + y) % 8 == 0 ? s_maskedLine : s_masked;

    private static Color Ramp(Color[] colors, double position)
    {
        double place = position * (colors.Length - 1);
        int index = Math.Min((int)place, colors.Length - 2);
        return Color.Mix(colors[index], colors[index + 1], place - index);
    }
}
