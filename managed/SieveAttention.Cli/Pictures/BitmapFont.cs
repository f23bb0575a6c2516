namespace SieveAttention.Cli.Pictures;

/// <summary>A fixed-width font for the printable ASCII characters: 5 x 7 pixels, and two below the line for descenders. Other
/// characters show as a question mark.</summary>
internal static class BitmapFont
{
    /// <summary>Pixels of a letter across.</summary>
    public const int GlyphWidth = 5;

    /// <summary>Pixels of a letter down, descenders included.</summary>
    public const int GlyphHeight = 9;

    /// <summary>Pixels of a capital letter down.</summary>
    public const int CapitalHeight = 7;

    /// <summary>Pixels from one letter to the next.</summary>
    public const int Advance = 6;

    private const char First = ' ';
    private const char Last = '~';

    /// <summary>45 pixels of each letter, row by row; the upper left one is the highest bit.</summary>
    private static readonly ulong[] s_glyphs =
    [
        0x000000000000, 0x042108401000, 0x0a5000000000, 0x0a57d5f52800, 0x047d1c5f1000, 0x19c88889cc00, //   ! " # $ %
        0x0c9511593400, 0x042000000000, 0x022210820800, 0x082084222000, 0x00255d520000, 0x00213e420000, // & ' ( ) * +
        0x000000063088, 0x00003e000000, 0x000000063000, 0x010888884000, 0x0e8ceb98b800, 0x046108423800, // , - . / 0 1
        0x0e884c887c00, 0x0e884c18b800, 0x0232a5f10800, 0x1f878218b800, 0x06443d18b800, 0x1f0888842000, // 2 3 4 5 6 7
        0x0e8c5d18b800, 0x0e8c5e113000, 0x006300c60000, 0x000318063088, 0x022220820800, 0x0007c1f00000, // 8 9 : ; < =
        0x082082222000, 0x0e8844401000, 0x0e8deb783c00, 0x0e8c7f18c400, 0x1e8c7d18f800, 0x0e8c2108b800, // > ? @ A B C
        0x1e8c6318f800, 0x1f843d087c00, 0x1f843d084000, 0x0e8c2f18bc00, 0x118c7f18c400, 0x0e2108423800, // D E F G H I
        0x071084293000, 0x119531494400, 0x108421087c00, 0x11dd6b18c400, 0x11cd6718c400, 0x0e8c6318b800, // J K L M N O
        0x1e8c7d084000, 0x0e8c63593400, 0x1e8c7d494400, 0x0f841c10f800, 0x1f2108421000, 0x118c6318b800, // P Q R S T U
        0x118c62a51000, 0x118c6b5dc400, 0x118a88a8c400, 0x118a88421000, 0x1f0888887c00, 0x0e4210843800, // V W X Y Z [
        0x108208208400, 0x0e1084213800, 0x045440000000, 0x000000007c00, 0x082000000000, 0x000382f8bc00, // \ ] ^ _ ` a
        0x1087a318f800, 0x0003e1083c00, 0x010be318bc00, 0x0003a3f83c00, 0x064790842000, 0x0003e318bc2e, // b c d e f g
        0x1087a318c400, 0x040308423800, 0x020184210a4c, 0x1084a98a4800, 0x0c2108423800, 0x0006ab5ad400, // h i j k l m
        0x0007a318c400, 0x0003a318b800, 0x0007a318fa10, 0x0003e318bc21, 0x0005b1084000, 0x0003e0e0f800, // n o p q r s
        0x084790841800, 0x00046319b400, 0x000462a51000, 0x00046b5aa800, 0x000454454400, 0x00046318bc2e, // t u v w x y
        0x0007c4447c00, 0x022110420800, 0x042108421000, 0x082104422000, 0x00022a200000, // z { | } ~
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
