namespace SieveAttention.Cli.Pictures;

/// <summary>An RGB picture to draw on; what falls outside of it is cut off. (0, 0) is the upper left pixel.</summary>
internal sealed class Canvas
{
    private const int Channels = 3;

    private readonly byte[] _pixels;

    /// <summary>Makes a white picture.</summary>
    public Canvas(int width, int height)
    {
        Width = width;
        Height = height;
        _pixels = new byte[checked(width * height * Channels)];
        Array.Fill(_pixels, byte.MaxValue);
    }

    /// <summary>Pixels across.</summary>
    public int Width { get; }

    /// <summary>Pixels down.</summary>
    public int Height { get; }

    /// <summary>The bytes of a row: red, green, blue of each pixel.</summary>
    public ReadOnlySpan<byte> Row(int y) => _pixels.AsSpan(y * Width * Channels, Width * Channels);

    /// <summary>The colour of a pixel inside the picture.</summary>
    public Color this[int x, int y]
    {
        get
        {
            int first = ((y * Width) + x) * Channels;
            return new Color(_pixels[first], _pixels[first + 1], _pixels[first + 2]);
        }
    }

    /// <summary>Colours one pixel.</summary>
    public void Set(int x, int y, Color color)
    {
        if (x < 0 || x >= Width || y < 0 || y >= Height)
        {
            return;
        }
        int first = ((y * Width) + x) * Channels;
        _pixels[first] = color.Red;
        _pixels[first + 1] = color.Green;
        _pixels[first + 2] = color.Blue;
    }

    /// <summary>Fills a rectangle.</summary>
    public void Fill(int x, int y, int width, int height, Color color)
    {
        for (int row = Math.Max(y, 0); row < Math.Min(y + height, Height); row++)
        {
            for (int column = Math.Max(x, 0); column < Math.Min(x + width, Width); column++)
            {
                Set(column, row, color);
            }
        }
    }

    /// <summary>Draws a frame of one pixel just outside of a rectangle.</summary>
    public void Frame(int x, int y, int width, int height, Color color)
    {
        Fill(x - 1, y - 1, width + 2, 1, color);
        Fill(x - 1, y + height, width + 2, 1, color);
        Fill(x - 1, y, 1, height, color);
        Fill(x + width, y, 1, height, color);
    }

    /// <summary>Writes text with its upper left corner at a point.</summary>
    public void Write(int x, int y, string text, Color color, int scale = 1)
    {
        foreach (char character in text)
        {
            for (int column = 0; column < BitmapFont.GlyphWidth; column++)
            {
                for (int row = 0; row < BitmapFont.GlyphHeight; row++)
                {
                    if (BitmapFont.IsSet(character, column, row))
                    {
                        Fill(x + (column * scale), y + (row * scale), scale, scale, color);
                    }
                }
            }
            x += BitmapFont.Advance * scale;
        }
    }

    /// <summary>Writes text that reads from bottom to top, its first letter at the bottom; (x, y) is its lower left corner.</summary>
    public void WriteUpward(int x, int y, string text, Color color, int scale = 1)
    {
        foreach (char character in text)
        {
            for (int column = 0; column < BitmapFont.GlyphWidth; column++)
            {
                for (int row = 0; row < BitmapFont.GlyphHeight; row++)
                {
                    if (BitmapFont.IsSet(character, column, row))
                    {
                        Fill(x + (row * scale), y - ((column + 1) * scale), scale, scale, color);
                    }
                }
            }
            y -= BitmapFont.Advance * scale;
        }
    }
}
