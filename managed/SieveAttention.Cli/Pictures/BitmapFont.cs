namespace SieveAttention.Cli.Pictures;

/// <summary>A fixed-width font of 5 x 7 pixels for the printable ASCII characters; others show as a question mark.</summary>
internal static class BitmapFont
{
    /// <summary>Pixels of a letter across.</summary>
    public const int GlyphWidth = 5;

    /// <summary>Pixels of a letter down.</summary>
    public const int GlyphHeight = 7;

    /// <summary>Pixels from one letter to the next.</summary>
    public const int Advance = 6;

    private const char First = ' ';
    private const char Last = '~';

    /// <summary>35 pixels of each letter, row by row; the upper left one is the highest bit.</summary>
    private static readonly ulong[] s_glyphs =
    [
        0x000000000, 0x108421004, 0x294000000, 0x295f57d4a, 0x11f4717c4, 0x672222273, 0x32544564d, 0x108000000, //   ! " # $ % & '
        0x088842082, 0x208210888, 0x009575480, 0x0084f9080, 0x000001088, 0x0000f8000, 0x00000018c, 0x042222210, // ( ) * + , - . /
        0x3a33ae62e, 0x11842108e, 0x3a213221f, 0x3a213062e, 0x08ca97c42, 0x7e1e0862e, 0x1910f462e, 0x7c2222108, // 0 1 2 3 4 5 6 7
        0x3a317462e, 0x3a317844c, 0x018c03180, 0x018c03088, 0x088882082, 0x001f07c00, 0x208208888, 0x3a2111004, // 8 9 : ; < = > ?
        0x3a37ade0f, 0x3a31fc631, 0x7a31f463e, 0x3a308422e, 0x7a318c63e, 0x7e10f421f, 0x7e10f4210, 0x3a30bc62f, // @ A B C D E F G
        0x4631fc631, 0x38842108e, 0x1c4210a4c, 0x4654c5251, 0x42108421f, 0x4775ac631, 0x47359c631, 0x3a318c62e, // H I J K L M N O
        0x7a31f4210, 0x3a318d64d, 0x7a31f5251, 0x3e107043e, 0x7c8421084, 0x46318c62e, 0x46318a944, 0x4631ad771, // P Q R S T U V W
        0x462a22a31, 0x462a21084, 0x7c222221f, 0x39084210e, 0x420820821, 0x38421084e, 0x115100000, 0x00000001f, // X Y Z [ \ ] ^ _
        0x208000000, 0x000e0be2f, 0x421e8c63e, 0x000f8420f, 0x042f8c62f, 0x000e8fe0f, 0x191e42108, 0x01f18bc2e, // ` a b c d e f g
        0x421e8c631, 0x100c2108e, 0x080610a4c, 0x4212a6292, 0x30842108e, 0x001aad6b5, 0x001e8c631, 0x000e8c62e, // h i j k l m n o
        0x03d18fa10, 0x01f18bc21, 0x0016c4210, 0x000f8383e, 0x211e42106, 0x00118c66d, 0x00118a944, 0x0011ad6aa, // p q r s t u v w
        0x001151151, 0x02318bc2e, 0x001f1111f, 0x088441082, 0x108421084, 0x208411088, 0x0008a8800, // x y z { | } ~
    ];

    /// <summary>Pixels that a text takes across.</summary>
    public static int Width(string text, int scale = 1) => Math.Max(0, (text.Length * Advance) - 1) * scale;

    /// <summary>Whether a letter has ink in a pixel.</summary>
    public static bool IsSet(char character, int column, int row)
    {
        ulong glyph = s_glyphs[(character is >= First and <= Last ? character : '?') - First];
        int bit = (GlyphWidth * GlyphHeight) - 1 - (row * GlyphWidth) - column;
        return ((glyph >> bit) & 1) != 0;
    }
}
