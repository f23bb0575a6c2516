using System.Text.RegularExpressions;
using NUnit.Framework;

namespace SieveAttention.Tests.Packaging;

/// <summary>The README says nothing that the sources do not.</summary>
[Category("Packaging")]
public sealed partial class ReadmeTests
{
    [Test]
    public void The_example_of_the_README_is_the_sample_that_the_build_compiles()
    {
        string example = File.ReadAllText(Path.Combine(SourceTree.Root, "samples", "QuickStart", "Program.cs"));
        Match block = CSharpBlock().Match(Readme());

        Assert.That(block.Success, "The README has no C# block.");
        Assert.That(block.Groups[1].Value, Is.EqualTo(example.ReplaceLineEndings("\n")));
    }

    [Test]
    public void Every_error_text_of_the_README_is_thrown_somewhere()
    {
        string[] texts = [.. Symptom().Matches(Readme()).SelectMany(match => match.Groups[1].Value.Split("...")).Select(part => part.Trim())];
        string sources = Sources();

        Assert.That(texts, Has.Length.GreaterThan(5));
        Assert.That(texts.Where(text => text.Length > 0 && !sources.Contains(text, StringComparison.Ordinal)), Is.Empty);
    }

    [Test]
    public void Every_file_that_the_README_links_to_exists()
    {
        string[] targets = [.. Link().Matches(Readme()).Select(match => match.Groups[1].Value)];

        Assert.That(targets, Is.Not.Empty);
        Assert.That(targets.Where(target => !Path.Exists(Path.Combine(SourceTree.Root, target))), Is.Empty);
    }

    private static string Readme() => File.ReadAllText(Path.Combine(SourceTree.Root, "README.md")).ReplaceLineEndings("\n");

    /// <summary>Everything that can raise an error, as one text.</summary>
    private static string Sources()
    {
        string[] folders = ["managed", "native", "cmake"];
        IEnumerable<string> files = folders.SelectMany(folder =>
            Directory.EnumerateFiles(Path.Combine(SourceTree.Root, folder), "*", SearchOption.AllDirectories))
            .Where(file => Path.GetExtension(file) is ".cs" or ".cpp" or ".h" or ".cmake")
            .Append(Path.Combine(SourceTree.Root, "build.sh"));
        return string.Join('\n', files.Select(File.ReadAllText));
    }

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    /// <summary>The first cell of a row of the troubleshooting table: a message in backticks, "..." for its variable parts.</summary>
    [GeneratedRegex("^\\| `([^`]+)` \\|", RegexOptions.Multiline)]
    private static partial Regex Symptom();

    [GeneratedRegex(@"\]\((?!https?://)([^)#]+)\)")]
    private static partial Regex Link();
}
