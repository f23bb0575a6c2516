using NUnit.Framework;
using SieveAttention.Cli.Verification;

namespace SieveAttention.Tests.Cli;

public sealed class ErrorStatisticsTests
{
    [Test]
    public void All_measures_are_computed()
    {
        ErrorStatistics error = ErrorStatistics.Compare([3, 4], [4, 0]);
        using (Assert.EnterMultipleScope())
        {
            Assert.That(error.MaxAbsolute, Is.EqualTo(4));
            Assert.That(error.Rms, Is.EqualTo(Math.Sqrt(17.0 / 2)));
            Assert.That(error.Relative, Is.EqualTo(1));
            Assert.That(error.CosineDistance, Is.EqualTo(1 - 0.6).Within(1e-15));
        }
    }

    [Test]
    public void Zeros_are_equal()
    {
        Assert.That(ErrorStatistics.Compare([0, 0], [0, -0.0]), Is.EqualTo(new ErrorStatistics(0, 0, 0, 0)));
    }

    [Test]
    public void An_error_of_exact_zeros_is_infinite_relative_to_them()
    {
        Assert.That(ErrorStatistics.Compare([1e-9], [0]).Relative, Is.EqualTo(double.PositiveInfinity));
    }

    [TestCase(double.NaN, 1)]
    [TestCase(1, double.NaN)]
    [TestCase(double.PositiveInfinity, 1)]
    [TestCase(double.PositiveInfinity, double.NegativeInfinity)]
    [TestCase(double.NaN, double.PositiveInfinity)]
    public void Values_that_are_not_finite_on_one_side_are_an_infinite_error(double computed, double exact)
    {
        Assert.That(ErrorStatistics.Compare([computed, 1], [exact, 1]).MaxAbsolute, Is.EqualTo(double.PositiveInfinity));
    }

    [TestCase(double.NaN)]
    [TestCase(double.NegativeInfinity)]
    public void The_same_value_that_is_not_finite_is_no_error(double value)
    {
        Assert.That(ErrorStatistics.Compare([value, 2], [value, 2]).MaxAbsolute, Is.Zero);
    }
}
