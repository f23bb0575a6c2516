using NUnit.Framework;
using SieveAttention.Cpu.Threshold;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Tests.Cpu;

[TestFixture(16)]
[TestFixture(8)]
[TestFixture(4)]
internal sealed class LaneTests(int width)
{
    private static readonly float[] s_edges =
        [0, -0f, 1, -1, 0.5f, 2, 1e-30f, -1e30f, float.NaN, float.PositiveInfinity, float.NegativeInfinity, float.Epsilon, 3, 4, 5, 6];

    [Test]
    public void Lanes_do_what_single_floats_do() => LaneChoice.Run(new Operations(), width);

    [Test]
    public void Powers_of_lanes_have_the_bits_of_powers_of_single_floats([Values(1.0, 1.25, 1.5, 2.0, 3.0, 4.5)] double power) =>
        LaneChoice.Run(new Powers(power), width);

    [Test]
    public void Exponentials_are_within_their_stated_error() => LaneChoice.Run(new Exponentials(), width);

    [Test]
    public void An_unknown_width_is_refused() =>
        Assert.That(
            () => LaneChoice.Run(new Operations(), 32),
            Throws.TypeOf<ArgumentOutOfRangeException>().With.Message.Contains("32").And.Message.Contains("16, 8 or 4"));

    private sealed unsafe record Operations : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            float* a = stackalloc float[TLanes.Count];
            float* b = stackalloc float[TLanes.Count];
            float* result = stackalloc float[TLanes.Count];
            for (int shift = 0; shift < s_edges.Length; shift++)
            {
                for (int start = 0; start < s_edges.Length; start += TLanes.Count)
                {
                    for (int c = 0; c < TLanes.Count; c++)
                    {
                        a[c] = s_edges[start + c];
                        b[c] = s_edges[(start + c + shift) % s_edges.Length];
                    }

                    TVector x = TLanes.Load(a);
                    TVector y = TLanes.Load(b);
                    ulong greater = TLanes.GreaterThan(x, y);
                    ulong notAtMost = TLanes.NotAtMost(x, y);
                    TLanes.Store(result, TLanes.WhereNotAtMost(x, y, TLanes.Broadcast(7)));
                    for (int c = 0; c < TLanes.Count; c++)
                    {
                        Assert.That((greater >> c) & 1, Is.EqualTo(a[c] > b[c] ? 1 : 0), $"{a[c]} > {b[c]}");
                        Assert.That((notAtMost >> c) & 1, Is.EqualTo(a[c] <= b[c] ? 0 : 1), $"not {a[c]} <= {b[c]}");
                        Assert.That(result[c], Is.EqualTo(a[c] <= b[c] ? 0 : 7));
                    }

                    Assert.That(TLanes.Count == 64 ? 0 : (greater | notAtMost) >> TLanes.Count, Is.Zero, "bits beyond the lanes");
                    Check(TLanes.Add(x, y), (p, q) => p + q);
                    Check(TLanes.Subtract(x, y), (p, q) => p - q);
                    Check(TLanes.Multiply(x, y), (p, q) => p * q);
                    Check(TLanes.Max(x, y), MathF.Max);
                    Check(TLanes.MultiplyAdd(x, y, x), (p, q) => MathF.FusedMultiplyAdd(p, q, p));
                }
            }

            TLanes.Store(result, TLanes.Clamp(TLanes.Load(a), -2, 3));
            for (int c = 0; c < TLanes.Count; c++)
            {
                Assert.That(result[c], Is.EqualTo(float.IsNaN(a[c]) ? a[c] : Math.Clamp(a[c], -2, 3)));
            }

            for (int n = -140; n <= 128; n++)
            {
                TLanes.Store(result, TLanes.PowerOfTwo(TLanes.Broadcast(n)));
                Assert.That(result[TLanes.Count - 1], Is.EqualTo(n < -126 ? 0 : MathF.ScaleB(1, n)), $"2^{n}");
            }

            for (int c = 0; c < TLanes.Count; c++)
            {
                a[c] = -c;
            }

            for (int c = 0; c < TLanes.Count; c++)
            {
                a[c] = 5;
                Assert.That(TLanes.Largest(TLanes.Load(a)), Is.EqualTo(5));
                a[c] = float.NaN;
                Assert.That(TLanes.Largest(TLanes.Load(a)), Is.NaN);
                a[c] = -c;
            }

            Assert.That(TLanes.Sum(TLanes.Broadcast(3)), Is.EqualTo(3 * TLanes.Count));

            void Check(TVector actual, Func<float, float, float> expected)
            {
                TLanes.Store(result, actual);
                for (int c = 0; c < TLanes.Count; c++)
                {
                    Assert.That(result[c], Is.EqualTo(expected(a[c], b[c])), $"of {a[c]} and {b[c]}");
                }
            }
        }
    }

    private sealed unsafe record Exponentials : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            for (double x = -87; x < 88; x += 0.00137)
            {
                double expected = Math.Exp((float)x);
                Assert.That(Exp((float)x), Is.EqualTo(expected).Within(1.2e-7 * expected), $"exp {x}");
            }

            Assert.That(Exp(0), Is.EqualTo(1));
            Assert.That(Exp(-88), Is.Zero);
            Assert.That(Exp(float.NegativeInfinity), Is.Zero);
            Assert.That(Exp(89), Is.EqualTo(float.PositiveInfinity));
            Assert.That(Exp(float.PositiveInfinity), Is.EqualTo(float.PositiveInfinity));
            Assert.That(Exp(float.NaN), Is.NaN);

            static float Exp(float x)
            {
                float* result = stackalloc float[TLanes.Count];
                TLanes.Store(result, LaneMath<TLanes, TVector>.Exp(TLanes.Broadcast(x)));
                return result[TLanes.Count - 1];
            }
        }
    }

    private sealed unsafe record Powers(double Power) : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            ThresholdPower power = new(Power);
            float* weights = stackalloc float[TLanes.Count];
            float* slopes = stackalloc float[TLanes.Count];
            for (double e = 1e-7; e < 2; e *= 1.01)
            {
                float exceedance = (float)e;
                TLanes.Store(weights, power.Weight<TLanes, TVector>(TLanes.Broadcast(exceedance)));
                TLanes.Store(slopes, power.Slope<TLanes, TVector>(TLanes.Broadcast(exceedance)));
                float weight = power.Weight(exceedance);
                float slope = power.Slope(exceedance);
                Assert.That(new ReadOnlySpan<float>(weights, TLanes.Count).ToArray(), Has.All.EqualTo(weight));
                Assert.That(new ReadOnlySpan<float>(slopes, TLanes.Count).ToArray(), Has.All.EqualTo(slope));
                // exp(p ln e): the rounding of p ln e, whose magnitude is at most 73 here, becomes relative.
                Assert.That(weight, Is.EqualTo(Math.Pow(exceedance, Power)).Within(Math.Pow(exceedance, Power) * 1e-5));
                double expectedSlope = Power * Math.Pow(exceedance, Power - 1);
                Assert.That(slope, Is.EqualTo(expectedSlope).Within(expectedSlope * 1e-5));
            }
        }
    }
}
