using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Tensors;

internal sealed class AttentionProblemTests
{
    [Test]
    public void Visible_keys_are_those_of_the_definition()
    {
        Properties.ForAllSeeds(
            seed =>
            {
                ThresholdCase test = ThresholdCase.Random(seed);
                for (int i = 0; i < test.Queries; i++)
                {
                    KeyRange range = test.Problem.Visible(i);
                    for (int j = 0; j < test.Keys; j++)
                    {
                        Assert.That(
                            j >= range.First && j < range.End,
                            Is.EqualTo(Scores.IsVisible(test.Options.Mask, test.Queries, test.Keys, i, j)),
                            $"row {i}, key {j}, {test.Options.Mask}");
                    }

                    Assert.That(range.Count, Is.GreaterThanOrEqualTo(0));
                }
            },
            count: 300);
    }

    [TestCase(AttentionMask.LargestOffset)]
    [TestCase(-AttentionMask.LargestOffset)]
    public void The_largest_offsets_do_not_overflow(long offset)
    {
        AttentionProblem problem = new(1, 1, 1, 4, 8, 1, 1, Causal: true, offset, Window: int.MaxValue);
        Assert.That(problem.Visible(3).Count, Is.Zero);
        Assert.That((problem with { Window = 0 }).Visible(3).Count, Is.EqualTo(offset > 0 ? 8 : 0));
    }

    [Test]
    public void Query_heads_share_key_heads_in_consecutive_groups()
    {
        AttentionProblem problem = new(1, 6, 2, 1, 1, 1, 1, Causal: true, 0, 0);
        Assert.That(Enumerable.Range(0, 6).Select(problem.KeyHead), Is.EqualTo(new[] { 0, 0, 0, 1, 1, 1 }));
    }
}
