using NUnit.Framework;
using SieveAttention.Cli.CommandLine;

namespace SieveAttention.Tests.Cli;

public sealed class ArgumentsTests
{
    private static readonly Option[] s_options = [new("--out", "FILE", ""), new("--json", null, ""), new("--head", "H", "")];

    [Test]
    public void Options_and_operands_may_be_mixed()
    {
        Arguments arguments = Parse("a", "--out", "x", "b", "--json", "--head=3", "--", "--json");
        using (Assert.EnterMultipleScope())
        {
            Assert.That(arguments.Operands, Is.EqualTo(new[] { "a", "b", "--json" }));
            Assert.That(arguments.Value("--out"), Is.EqualTo("x"));
            Assert.That(arguments.Has("--json"), Is.True);
            Assert.That(arguments.Integer("--head", 0, 0, 9), Is.EqualTo(3));
        }
    }

    [TestCase("--other", "unknown option '--other'; 'sieve test' has --out, --json, --head")]
    [TestCase("-x", "unknown option '-x'")]
    [TestCase("--outx=1", "unknown option '--outx'")]
    [TestCase("--out", "--out needs a value: --out FILE")]
    [TestCase("--out --json", "--out needs a value")]
    [TestCase("--json=1", "--json takes no value, found '1'")]
    [TestCase("--json --json", "--json is given twice")]
    [TestCase("--out a --out b", "--out is given twice")]
    public void Mistakes_are_named(string line, string message)
    {
        Assert.That(() => Parse(line.Split(' ')), Throws.TypeOf<UsageException>().With.Message.Contain(message));
    }

    [TestCase("-1")]
    [TestCase("10")]
    [TestCase("1.5")]
    [TestCase("x")]
    [TestCase("99999999999")]
    public void A_number_outside_its_limits_is_refused(string value)
    {
        Assert.That(
            () => Parse("--head", value).Integer("--head", 0, 0, 9),
            Throws.TypeOf<UsageException>().With.Message.Contain($"--head: found '{value}'; allowed: an integer from 0 to 9"));
    }

    private static Arguments Parse(params string[] arguments) => Arguments.Parse("test", arguments, s_options);
}
