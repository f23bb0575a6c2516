using NUnit.Framework;
using SieveAttention.Cli.Output;

namespace SieveAttention.Tests.Cli;

public sealed class ProgressTests
{
    [Test]
    public void A_bar_is_drawn_on_one_line_and_wiped_out()
    {
        using StringWriter writer = new();
        using (Progress progress = new(writer, ProgressStyle.Bar, 2))
        {
            progress.Step("first");
            progress.Step("second");
        }
        using (Assert.EnterMultipleScope())
        {
            Assert.That(writer.ToString(), Does.Not.Contain("\n"));
            Assert.That(writer.ToString(), Does.Contain("[------------------------------] 1/2 first"));
            Assert.That(writer.ToString(), Does.Contain("[###############---------------] 2/2 second"));
            Assert.That(writer.ToString(), Does.EndWith("\r\u001b[K"));
        }
    }

    [Test]
    public void More_steps_than_announced_stay_within_the_bar()
    {
        using StringWriter writer = new();
        using (Progress progress = new(writer, ProgressStyle.Lines, 1))
        {
            progress.Step("one");
            progress.Step("two");
        }
        Assert.That(writer.ToString(), Does.Contain("[1/1] two"));
    }

    [Test]
    public void Nobody_watching_means_nothing_written()
    {
        using StringWriter writer = new();
        using (Progress progress = new(writer, ProgressStyle.None, 1))
        {
            progress.Step("one");
        }
        Assert.That(writer.ToString(), Is.Empty);
    }
}
