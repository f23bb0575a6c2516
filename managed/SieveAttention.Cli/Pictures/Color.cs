namespace SieveAttention.Cli.Pictures;

/// <summary>An 8-bit sRGB colour.</summary>
internal readonly record struct Color(byte Red, byte Green, byte Blue)
{
    /// <summary>Paper.</summary>
    public static Color White { get; } = new(255, 255, 255);

    /// <summary>Text and frames.</summary>
    public static Color Ink { get; } = new(32, 34, 40);

    /// <summary>Less important text and ticks.</summary>
    public static Color Grey { get; } = new(110, 114, 124);

    /// <summary>Grid lines.</summary>
    public static Color Faint { get; } = new(222, 224, 229);

    /// <summary>The colour a part of the way from one to another.</summary>
    /// <param name="from">At 0.</param>
    /// <param name="to">At 1.</param>
    /// <param name="part">0 to 1.</param>
    public static Color Mix(Color from, Color to, double part) => new(
        (byte)Math.Round(from.Red + (part * (to.Red - from.Red))),
        (byte)Math.Round(from.Green + (part * (to.Green - from.Green))),
        (byte)Math.Round(from.Blue + (part * (to.Blue - from.Blue))));
}
