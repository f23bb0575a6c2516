namespace SieveAttention.Bindings;

/// <summary>
/// Turns a <c>/** ... */</c> comment into XML documentation: the first paragraph is the summary, the others are remarks, indented
/// ones formulas. Works on the raw text, because CppSharp's printer makes a paragraph of every line and loses blanks around
/// comparison signs.
/// </summary>
internal static class DocumentationComment
{
    internal static IEnumerable<string> ToXml(string comment)
    {
        List<List<string>> paragraphs = Paragraphs(comment);
        foreach (string line in Element("summary", paragraphs[0]))
        {
            yield return line;
        }

        if (paragraphs.Count == 1)
        {
            yield break;
        }

        yield return "/// <remarks>";
        foreach (List<string> paragraph in paragraphs.Skip(1))
        {
            bool formula = paragraph.All(line => line.StartsWith("  ", StringComparison.Ordinal));
            foreach (string line in Element(formula ? "code" : "para", paragraph))
            {
                yield return line;
            }
        }

        yield return "/// </remarks>";
    }

    private static IEnumerable<string> Element(string name, List<string> lines)
    {
        return lines.Count == 1
            ? [$"/// <{name}>{Escape(lines[0].Trim())}</{name}>"]
            : [$"/// <{name}>", .. lines.Select(line => $"/// {Escape(line.Trim())}"), $"/// </{name}>"];
    }

    private static List<List<string>> Paragraphs(string comment)
    {
        List<List<string>> paragraphs = [[]];
        foreach (string line in comment.ReplaceLineEndings("\n").Split('\n'))
        {
            string text = WithoutFrame(line);
            if (text.Length > 0)
            {
                paragraphs[^1].Add(text);
            }
            else if (paragraphs[^1].Count > 0)
            {
                paragraphs.Add([]);
            }
        }

        return [.. paragraphs.Where(paragraph => paragraph.Count > 0)];
    }

    /// <summary>The line without the comment's own characters and the one blank after them; further blanks mean a formula.</summary>
    private static string WithoutFrame(string line)
    {
        string text = line.Trim();
        text = text.EndsWith("*/", StringComparison.Ordinal) ? text[..^2].TrimEnd() : text;
        text = text.StartsWith("/**", StringComparison.Ordinal) ? text[3..] : text.StartsWith('*') ? text[1..] : text;
        return text.StartsWith(' ') ? text[1..] : text;
    }

    private static string Escape(string text) => text.Replace("&", "&amp;").Replace("<", "&lt;").Replace(">", "&gt;");
}
