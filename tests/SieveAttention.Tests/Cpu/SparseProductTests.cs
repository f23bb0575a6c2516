using NUnit.Framework;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Tests.Cpu;

[TestFixture(16)]
[TestFixture(8)]
[TestFixture(4)]
internal sealed class SparseProductTests(int width)
{
    [Test]
    public void A_gathered_row_has_the_bits_of_the_dense_product(
        [Values(1, 5, 16, 17, 33, 48, 64, 80)] int channels, [Values(0, 1, 7, 64)] int survivors) =>
        LaneChoice.Run(new GatherEqualsDense(channels, survivors), width);

    [Test]
    public void Dot_and_scaled_addition_match_naive_loops([Values(1, 5, 16, 17, 64, 80)] int channels) =>
        LaneChoice.Run(new RowOperations(channels), width);

    private static unsafe PaddedRows RandomRows(FloatArena arena, Random random, int rows, int channels)
    {
        PaddedRows matrix = new(arena, rows, channels);
        for (int row = 0; row < rows; row++)
        {
            matrix.ClearPadding(row);
            foreach (ref float value in matrix.Span(row))
            {
                value = (float)((random.NextDouble() * 2) - 1);
            }
        }

        return matrix;
    }

    private sealed unsafe record GatherEqualsDense(int Channels, int Survivors) : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            Random random = new(Channels);
            using FloatArena arena = new(FloatArena.Small);
            PaddedRows b = RandomRows(arena, random, 64, Channels);
            PaddedRows sums = RandomRows(arena, random, 2, Channels);
            sums.Span(0).CopyTo(sums.Span(1));
            ScoreTile weights = new(arena);
            WeightList list = new(arena);
            new Span<float>(weights.Row(0), 64).Clear();
            for (int n = 0; n < Survivors; n++)
            {
                int column = n * 64 / Survivors;
                weights.Row(0)[column] = (float)random.NextDouble();
                list.Add(column, weights.Row(0)[column]);
            }

            SparseProduct<TLanes, TVector>.Gather(list, b.Row(0), b.Stride, Channels, sums.Row(0));
            TileProduct<TLanes, TVector>.Multiply(
                weights.Left, b.Right<TLanes, TVector>(0), 1, 64, Channels, sums.Row(1), sums.Stride, accumulate: true);
            Assert.That(sums.Span(0).ToArray(), Is.EqualTo(sums.Span(1).ToArray()));
        }
    }

    private sealed unsafe record RowOperations(int Channels) : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            using FloatArena arena = new(FloatArena.Small);
            PaddedRows rows = RandomRows(arena, new Random(Channels), 2, Channels);
            double dot = 0;
            float[] expected = rows.Span(1).ToArray();
            for (int c = 0; c < Channels; c++)
            {
                dot += (double)rows.Span(0)[c] * rows.Span(1)[c];
                expected[c] = MathF.FusedMultiplyAdd(0.3f, rows.Span(0)[c], expected[c]);
            }

            // A sum of at most 80 products below 1, each addition rounded.
            Assert.That(SparseProduct<TLanes, TVector>.Dot(rows.Row(0), rows.Row(1), Channels), Is.EqualTo(dot).Within(1e-5));
            SparseProduct<TLanes, TVector>.AddScaled(0.3f, rows.Row(0), Channels, rows.Row(1));
            Assert.That(rows.Span(1).ToArray(), Is.EqualTo(expected));
        }
    }
}
