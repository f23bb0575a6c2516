using NUnit.Framework;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Tests.Cpu;

/// <summary>
/// Products of every tail size against a naive loop. An element is one chain of fused multiply-adds in the order of depth whatever the
/// width and the block, so the expected values are exact, not within a tolerance.
/// </summary>
[TestFixture(16)]
[TestFixture(8)]
[TestFixture(4)]
internal sealed class TileProductTests(int width)
{
    private const float Untouched = 12345;

    [Test]
    public void Every_number_of_rows_and_columns_matches_a_naive_loop_exactly([Values] bool transposed, [Values] bool accumulate)
    {
        foreach (int rows in new[] { 1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 64 })
        {
            foreach (int columns in new[] { 1, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64 })
            {
                LaneChoice.Run(new Comparison(rows, columns, Depth: 5, transposed, accumulate, Packed: false), width);
                LaneChoice.Run(new Comparison(rows, columns, Depth: 5, transposed, accumulate, Packed: true), width);
            }
        }
    }

    [TestCase(1)]
    [TestCase(64)]
    [TestCase(200)]
    public void Every_depth_matches_a_naive_loop_exactly(int depth)
    {
        LaneChoice.Run(new Comparison(9, 37, depth, Transposed: false, Accumulate: true, Packed: false), width);
        LaneChoice.Run(new Comparison(9, 37, depth, Transposed: false, Accumulate: false, Packed: true), width);
    }

    private sealed unsafe record Comparison(int Rows, int Columns, int Depth, bool Transposed, bool Accumulate, bool Packed) : ILaneWork
    {
        public void Run<TLanes, TVector>()
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            Random random = new((Rows * 1000) + Columns);
            int cRow = FloatArena.Pad(Columns) + FloatArena.Line;
            using FloatArena arena = new(FloatArena.Small);
            float* a = Fill(arena, random, Math.Max(1, Rows * Depth));
            float* c = Fill(arena, random, Rows * cRow);
            // B is stored as Columns rows of Depth for the packed form and as Depth rows of Columns otherwise.
            float[] b = new float[Columns * Depth];
            Array.ConvertAll(b, _ => Next(random)).CopyTo(b, 0);
            PaddedRows rowMajor = new(arena, Math.Max(1, Depth), Columns);
            ColumnPanels panels = new(arena, Columns, Math.Max(1, Depth), MicroKernel<TLanes, TVector>.MaxColumns);
            RightFactor right = Pack<TLanes, TVector>(b, rowMajor, panels);
            LeftFactor left = Transposed ? new LeftFactor(a, Rows).Transposed : new LeftFactor(a, Depth);
            float[] before = new ReadOnlySpan<float>(c, Rows * cRow).ToArray();
            for (int row = 0; row < Rows; row++)
            {
                new Span<float>(c + (row * cRow) + FloatArena.Pad(Columns), FloatArena.Line).Fill(Untouched);
            }

            TileProduct<TLanes, TVector>.Multiply(left, right, Rows, Depth, Columns, c, cRow, Accumulate);

            for (int row = 0; row < Rows; row++)
            {
                for (int column = 0; column < Columns; column++)
                {
                    float expected = Accumulate ? before[(row * cRow) + column] : 0;
                    for (int k = 0; k < Depth; k++)
                    {
                        float x = Transposed ? a[(k * Rows) + row] : a[(row * Depth) + k];
                        expected = MathF.FusedMultiplyAdd(x, b[(column * Depth) + k], expected);
                    }

                    if (c[(row * cRow) + column] != expected)
                    {
                        Assert.Fail($"{this}: element [{row}, {column}] is {c[(row * cRow) + column]}, expected {expected}");
                    }
                }

                if (new Span<float>(c + (row * cRow) + FloatArena.Pad(Columns), FloatArena.Line).IndexOfAnyExcept(Untouched) >= 0)
                {
                    Assert.Fail($"{this}: wrote beyond the padded columns of row {row}");
                }
            }
        }

        private RightFactor Pack<TLanes, TVector>(float[] b, PaddedRows rowMajor, ColumnPanels panels)
            where TLanes : struct, ILanes<TVector>
            where TVector : struct
        {
            if (Packed)
            {
                fixed (float* source = b)
                {
                    panels.Fill(0, source, Depth, Columns);
                }

                return panels.Tile(0);
            }

            for (int k = 0; k < Depth; k++)
            {
                rowMajor.ClearPadding(k);
                for (int column = 0; column < Columns; column++)
                {
                    rowMajor.Row(k)[column] = b[(column * Depth) + k];
                }
            }

            return rowMajor.Right<TLanes, TVector>(0);
        }

        private static float* Fill(FloatArena arena, Random random, int count)
        {
            float* buffer = arena.Take(count);
            for (int i = 0; i < count; i++)
            {
                buffer[i] = Next(random);
            }

            return buffer;
        }

        private static float Next(Random random) => (float)((random.NextDouble() * 2) - 1);
    }
}
