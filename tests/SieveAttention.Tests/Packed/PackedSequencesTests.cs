using NUnit.Framework;

namespace SieveAttention.Tests.Packed;

[TestFixture]
internal sealed class PackedSequencesTests
{
    private static readonly int[] s_starts = [0, 3, 3, 8];

    [Test]
    public void Starts_are_kept() => Assert.That(new PackedSequences(s_starts, s_starts).Count, Is.EqualTo(3));

    [Test]
    public void Starts_that_describe_no_sequences_are_refused() => Assert.Multiple(() =>
    {
        Refused([0], [0], "queryStarts has 1 numbers from 0; allowed: at least 2 from 0.");
        Refused([1, 2], [0, 2], "queryStarts has 2 numbers from 1; allowed: at least 2 from 0.");
        Refused([0, 4, 3], [0, 4, 8], "queryStarts[2] is 3 after 4; allowed: numbers that do not fall.");
        Refused([0, 4, 8], [0, 8], "keyStarts has 2 numbers and queryStarts has 3; allowed: as many of both.");
        Refused([0, 4, 8], [0, 8, 8], "Sequence 1 has 4 query rows and no key; allowed: at least one key.");
    });

    private static void Refused(int[] queryStarts, int[] keyStarts, string message) => Assert.That(
        () => new PackedSequences(queryStarts, keyStarts), Throws.ArgumentException.With.Message.StartsWith(message));
}
