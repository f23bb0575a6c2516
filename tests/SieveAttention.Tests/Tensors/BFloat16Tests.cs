using NUnit.Framework;
using SieveAttention.Tests.Support;

namespace SieveAttention.Tests.Tensors;

internal sealed class BFloat16Tests
{
    [Test]
    public void Every_number_survives_the_way_to_float_and_back()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            BFloat16 value = BFloat16.FromBits((ushort)bits);
            if (float.IsNaN(value))
            {
                Assert.That(float.IsNaN((BFloat16)(float)value), $"{bits:X4}");
                continue;
            }

            Assert.That(((BFloat16)(float)value).ToBits(), Is.EqualTo(bits));
            Assert.That(((BFloat16)(double)value).ToBits(), Is.EqualTo(bits));
        }
    }

    [TestCase(1.0, 0x3F80)]
    [TestCase(1.00390625, 0x3F80, Description = "halfway between 1 and its successor: to the even one, 1")]
    [TestCase(1.01171875, 0x3F82, Description = "halfway between an odd and an even number: to the even one")]
    [TestCase(1.00390626, 0x3F81)]
    [TestCase(3.3895313892515355e38, 0x7F7F)]
    [TestCase(3.4e38, 0x7F80, Description = "beyond the largest number and half a step")]
    [TestCase(-1e300, 0xFF80)]
    [TestCase(1e-300, 0x0000)]
    [TestCase(-1e-300, 0x8000)]
    public void Doubles_round_to_the_nearest_even(double value, int bits) => Assert.That(((BFloat16)value).ToBits(), Is.EqualTo(bits));

    [Test]
    public void A_double_is_rounded_once_only()
    {
        // Slightly above the middle between 1 and its successor, by less than a float can hold: rounding to float first would
        // give the middle and then 1.
        double value = 1.00390625 + 1e-12;
        Assert.That((float)value, Is.EqualTo(1.00390625f), "the premise: a float cannot hold the difference");
        Assert.That(((BFloat16)value).ToBits(), Is.EqualTo(0x3F81));
        Assert.That(((BFloat16)(1.00390625 + 1e-12 - 2e-12)).ToBits(), Is.EqualTo(0x3F80));
    }

    [Test]
    public void Rounding_a_double_finds_the_nearest_neighbour()
    {
        Properties.ForAllSeeds(seed =>
        {
            Random random = new(seed);
            double value = (random.NextDouble() - 0.5) * Math.ScaleB(1, random.Next(-140, 120));
            BFloat16 rounded = (BFloat16)value;
            double error = Math.Abs((double)rounded - value);
            Assert.That(error, Is.LessThanOrEqualTo(Math.Abs((double)BFloat16.FromBits((ushort)(rounded.ToBits() + 1)) - value)));
            if ((rounded.ToBits() & 0x7FFF) > 0)
            {
                Assert.That(error, Is.LessThanOrEqualTo(Math.Abs((double)BFloat16.FromBits((ushort)(rounded.ToBits() - 1)) - value)));
            }
        });
    }

    [Test]
    public void NaN_whose_payload_lies_below_the_cut_stays_NaN()
    {
        float nan = BitConverter.UInt32BitsToSingle(0x7F800001);
        Assert.That(float.IsNaN((BFloat16)nan));
        Assert.That(float.IsNaN((BFloat16)double.NaN));
    }

    [Test]
    public void Equality_is_that_of_numbers()
    {
        Assert.Multiple(() =>
        {
            BFloat16 nan = (BFloat16)float.NaN;
            BFloat16 sameNan = (BFloat16)double.NaN;
            Assert.That(BFloat16.FromBits(0x8000) == BFloat16.FromBits(0), "-0 and 0");
            Assert.That(nan != sameNan, "NaN");
            Assert.That(nan.Equals(sameNan), "Equals, as for float, so that sets work");
            Assert.That(((BFloat16)1.5f).ToString(), Is.EqualTo("1.5"));
        });
    }
}
