using System.Globalization;

namespace SieveAttention.Cli.Pictures;

/// <summary>
/// A picture of the attention weights of one head: the map (queries down, keys across), beside each row its counts of
/// survivors, a colour bar, a legend, and lines of text above.
/// </summary>
internal sealed class WeightPicture
{
    /// <summary>Pixels of a picture that wants no other width.</summary>
    public const int UsualWidth = 1510;

    /// <summary>Pixels below which texts would collide.</summary>
    public const int LeastWidth = 900;

    /// <summary>Pixels of the widest picture.</summary>
    public const int MostWidth = 1600;

    private const int Scale = 2;
    private const int LetterHeight = BitmapFont.CapitalHeight * Scale;
    private const int LineHeight = LetterHeight + 10;
    private const int Margin = 20;
    private const int Left = 104;
    private const int Gap = 26;
    private const int CountWidth = 84;
    private const int BarWidth = 22;
    private const int BarTextWidth = 88;
    private const int TickLength = 6;
    private const int LargestCell = 40;
    private const int FewestCellPixels = 2;
    private const int LeastMapHeight = 220;

    private static readonly Color[] s_countColors = [new(190, 70, 40), new(40, 100, 180)];

    private readonly IWeightSource _source;
    private readonly WeightMap _map;
    private readonly WeightColors _colors;
    private readonly int _cellWidth;
    private readonly int _cellHeight;
    private readonly int _top;

    private WeightPicture(IWeightSource source, WeightMap map, int area, IReadOnlyList<string> caption)
    {
        _source = source;
        _map = map;
        _colors = new WeightColors(Math.Max(map.Largest, -map.Smallest));
        _cellWidth = Math.Clamp(area / map.Columns, 1, LargestCell);
        _cellHeight = Math.Clamp(area / map.Rows, 1, LargestCell);
        _top = Margin + (caption.Count * LineHeight) + LineHeight + 4;
    }

    private int MapWidth => _map.Columns * _cellWidth;

    private int MapHeight => _map.Rows * _cellHeight;

    private int CountLeft => Left + MapWidth + Gap;

    /// <summary>Cells in each direction that a picture of this width has room for.</summary>
    public static int MostCells(int width, int counts) => Area(width, counts) / FewestCellPixels;

    /// <summary>Draws a picture, as wide as it needs to be.</summary>
    /// <param name="source">Names and positions.</param>
    /// <param name="map">The weights, reduced to at most <see cref="MostCells"/>.</param>
    /// <param name="width">Pixels across that the picture may have.</param>
    /// <param name="caption">Lines above the map, the first as title; broken where they are too long.</param>
    public static Canvas Draw(IWeightSource source, WeightMap map, int width, IReadOnlyList<string> caption)
    {
        int area = Area(width, source.CountNames.Count);
        int used = width - area + (map.Columns * Math.Clamp(area / map.Columns, 1, LargestCell));
        width = Math.Max(used, LeastWidth);
        List<string> lines = [.. caption.SelectMany(line => Break(line, (width - (2 * Margin)) / (BitmapFont.Advance * Scale)))];
        WeightPicture picture = new(source, map, area, lines);
        int height = picture._top + Math.Max(picture.MapHeight, LeastMapHeight) + (4 * LineHeight) + Margin;
        Canvas canvas = new(width, height);
        int y = Margin;
        foreach (string text in lines)
        {
            canvas.Write(Margin, y, text, y == Margin ? Color.Ink : Color.Grey, Scale);
            y += LineHeight;
        }
        picture.DrawMap(canvas);
        picture.DrawAxes(canvas);
        for (int count = 0; count < source.CountNames.Count; count++)
        {
            picture.DrawCounts(canvas, count);
        }
        picture.DrawColorBar(canvas);
        DrawLegend(canvas, height - Margin - LetterHeight);
        return canvas;
    }

    /// <summary>Breaks a text at spaces into lines of at most so many characters.</summary>
    private static IEnumerable<string> Break(string text, int most)
    {
        while (text.Length > most)
        {
            int space = text.LastIndexOf(' ', most);
            int end = space > 0 ? space : most;
            yield return text[..end].TrimEnd();
            text = text[end..].TrimStart();
        }
        yield return text;
    }

    private static int Area(int width, int counts) =>
        width - Left - Gap - (counts * (CountWidth + Gap)) - BarWidth - BarTextWidth - Margin;

    private void DrawMap(Canvas canvas)
    {
        for (int row = 0; row < _map.Rows; row++)
        {
            for (int column = 0; column < _map.Columns; column++)
            {
                int x = Left + (column * _cellWidth);
                int y = _top + (row * _cellHeight);
                if (_map.IsVisible(row, column))
                {
                    canvas.Fill(x, y, _cellWidth, _cellHeight, _colors.Of(_map[row, column]));
                }
                else
                {
                    DrawMasked(canvas, x, y, _cellWidth, _cellHeight);
                }
            }
        }
        canvas.Frame(Left, _top, MapWidth, MapHeight, Color.Ink);
    }

    private static void DrawMasked(Canvas canvas, int x, int y, int width, int height)
    {
        for (int row = y; row < y + height; row++)
        {
            for (int column = x; column < x + width; column++)
            {
                canvas.Set(column, row, WeightColors.Masked(column, row));
            }
        }
    }

    private void DrawAxes(Canvas canvas)
    {
        int bottom = _top + MapHeight;
        foreach (long key in Ticks.Integers(0, _source.Keys - 1, Math.Max(2, MapWidth / 110)))
        {
            int x = Left + (int)((key + 0.5) * MapWidth / (_map.Columns * (double)_map.ColumnsPerCell));
            string text = key.ToString(CultureInfo.InvariantCulture);
            canvas.Fill(x, bottom + 1, 1, TickLength, Color.Grey);
            canvas.Write(x - (BitmapFont.Width(text, Scale) / 2), bottom + TickLength + 5, text, Color.Grey, Scale);
        }
        long first = _source.QueryOffset;
        foreach (long position in Ticks.Integers(first, first + _source.Queries - 1, Math.Max(2, MapHeight / 60)))
        {
            int y = _top + (int)((position - first + 0.5) * MapHeight / (_map.Rows * (double)_map.RowsPerCell));
            string text = position.ToString(CultureInfo.InvariantCulture);
            canvas.Fill(Left - 1 - TickLength, y, TickLength, 1, Color.Grey);
            canvas.Write(Left - TickLength - 6 - BitmapFont.Width(text, Scale), y - (LetterHeight / 2), text, Color.Grey, Scale);
        }
        WriteCentered(canvas, Left + (MapWidth / 2), bottom + TickLength + 5 + LineHeight, "key position", Color.Ink);
        string title = "query position";
        canvas.WriteUpward(10, _top + (MapHeight / 2) + (BitmapFont.Width(title, Scale) / 2), title, Color.Ink, Scale);
    }

    /// <summary>Bars beside the rows of the map; both kinds of counts have one logarithmic scale, log(1 + count).</summary>
    private void DrawCounts(Canvas canvas, int count)
    {
        int left = CountLeft + (count * (CountWidth + Gap));
        int most = Math.Max(1, _map.MostCounts.Max(rows => rows.Max()));
        double unit = (CountWidth - 1) / Math.Log(1 + most);
        Color color = s_countColors[count % s_countColors.Length];
        canvas.Frame(left, _top, CountWidth, MapHeight, Color.Ink);
        int free = 0;
        for (int tick = 1; tick <= most; tick *= 10)
        {
            int x = left + (int)(unit * Math.Log(1 + tick));
            canvas.Fill(x, _top, 1, MapHeight, Color.Faint);
            canvas.Fill(x, _top + MapHeight + 1, 1, TickLength, Color.Grey);
            string text = tick.ToString(CultureInfo.InvariantCulture);
            int half = BitmapFont.Width(text, Scale) / 2;
            // Where powers of ten stand close, one of them has to do without a number.
            if (x - half >= free)
            {
                WriteCentered(canvas, x, _top + MapHeight + TickLength + 5, text, Color.Grey);
                free = x + half + LetterHeight;
            }
        }
        for (int row = 0; row < _map.Rows; row++)
        {
            int length = (int)Math.Round(unit * Math.Log(1 + _map.MostCounts[count][row]));
            canvas.Fill(left, _top + (row * _cellHeight), length, _cellHeight, color);
        }
        WriteCentered(canvas, left + (CountWidth / 2), _top - LetterHeight - 6, _source.CountNames[count], color);
        if (count == 0)
        {
            int width = (_map.MostCounts.Length * (CountWidth + Gap)) - Gap;
            WriteCentered(canvas, left + (width / 2), _top + MapHeight + TickLength + 5 + LineHeight, "survivors per row", Color.Ink);
        }
    }

    private void DrawColorBar(Canvas canvas)
    {
        int left = CountLeft + (_source.CountNames.Count * (CountWidth + Gap));
        int half = Math.Clamp(MapHeight / 2, 80, 260);
        bool positive = _map.Largest > 0 || _map.Smallest == 0;
        bool negative = _map.Smallest < 0;
        int zero = _top + (positive ? half : 0);
        int height = (positive ? half : 0) + (negative ? half : 0);
        for (int y = _top; y < _top + height; y++)
        {
            double place = (zero - y) / (double)half;
            double weight = _colors.LargestMagnitude * place * place * place;
            canvas.Fill(left, y, BarWidth, 1, _colors.Of(weight));
        }
        canvas.Frame(left, _top, BarWidth, height, Color.Ink);
        canvas.Write(left, _top - LetterHeight - 6, "weight", Color.Ink, Scale);
        DrawBarTick(canvas, left, zero, "0");
        int free = half;
        foreach (double power in _colors.LargestMagnitude > 0 ? Ticks.PowersOfTen(_colors.LargestMagnitude, 5) : [])
        {
            int distance = (int)(half * _colors.Position(power));
            if (distance > free || distance < LetterHeight + 4)
            {
                continue;
            }
            free = distance - LetterHeight - 4;
            if (positive)
            {
                DrawBarTick(canvas, left, zero - distance, Ticks.PowerText(power));
            }
            if (negative)
            {
                DrawBarTick(canvas, left, zero + distance, "-" + Ticks.PowerText(power));
            }
        }
    }

    private static void DrawBarTick(Canvas canvas, int left, int y, string text)
    {
        canvas.Fill(left + BarWidth + 1, y, TickLength, 1, Color.Grey);
        canvas.Write(left + BarWidth + TickLength + 5, y - (LetterHeight / 2), text, Color.Grey, Scale);
    }

    private static void DrawLegend(Canvas canvas, int y)
    {
        int x = Left;
        canvas.Fill(x, y, LetterHeight, LetterHeight, Color.White);
        canvas.Frame(x, y, LetterHeight, LetterHeight, Color.Grey);
        x = WriteAfter(canvas, x, y, "weight 0");
        DrawMasked(canvas, x, y, LetterHeight, LetterHeight);
        canvas.Frame(x, y, LetterHeight, LetterHeight, Color.Grey);
        WriteAfter(canvas, x, y, "not visible");
    }

    private static int WriteAfter(Canvas canvas, int x, int y, string text)
    {
        canvas.Write(x + LetterHeight + 10, y, text, Color.Grey, Scale);
        return x + LetterHeight + 10 + BitmapFont.Width(text, Scale) + 36;
    }

    private static void WriteCentered(Canvas canvas, int x, int y, string text, Color color) =>
        canvas.Write(x - (BitmapFont.Width(text, Scale) / 2), y, text, color, Scale);
}
