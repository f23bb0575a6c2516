using NUnit.Framework;
using SieveAttention.Cli.Cases;

namespace SieveAttention.Tests.Cli;

/// <summary>Numbers of case metadata are plain decimal ones.</summary>
public sealed class CaseNumberTests
{
    [TestCase("0", 0)]
    [TestCase("12", 12)]
    [TestCase("-0.5", -0.5)]
    [TestCase("1e-5", 1e-5)]
    [TestCase("1E+3", 1000)]
    [TestCase("2.50e2", 250)]
    [TestCase("0.9556804299354553", 0.9556804299354553)]
    [TestCase("1e-400", 0)]
    public void Plain_decimal_numbers_are_read(string text, double expected)
    {
        Assert.That(CaseNumber.TryParse(text, out double value), Is.True);
        Assert.That(value, Is.EqualTo(expected));
    }

    [TestCase("")]
    [TestCase(" 1")]
    [TestCase("1 ")]
    [TestCase("1\n")]
    [TestCase("nan")]
    [TestCase("NaN")]
    [TestCase("inf")]
    [TestCase("-Infinity")]
    [TestCase("\u221e")]
    [TestCase("0x10")]
    [TestCase("1e999")]
    [TestCase("+1")]
    [TestCase(".5")]
    [TestCase("5.")]
    [TestCase("-")]
    [TestCase("1e")]
    [TestCase("1e+")]
    [TestCase("1,5")]
    [TestCase("1_000")]
    [TestCase("1,000")]
    [TestCase("--1")]
    [TestCase("1f")]
    [TestCase("(1)")]
    [TestCase("\u0661")]
    [TestCase("1.2.3")]
    public void Anything_else_is_refused(string text)
    {
        Assert.That(CaseNumber.TryParse(text, out _), Is.False);
    }

    [TestCase("0", 0)]
    [TestCase("-17", -17)]
    [TestCase("9223372036854775807", long.MaxValue)]
    public void Integers_are_read(string text, long expected)
    {
        Assert.That(CaseNumber.TryParseInteger(text, out long value), Is.True);
        Assert.That(value, Is.EqualTo(expected));
    }

    [TestCase("1.0")]
    [TestCase("1e3")]
    [TestCase("9223372036854775808")]
    [TestCase("+1")]
    [TestCase("0x1")]
    [TestCase(" 1")]
    [TestCase("")]
    public void A_number_is_refused_where_an_integer_is_meant(string text)
    {
        Assert.That(CaseNumber.TryParseInteger(text, out _), Is.False);
    }
}
