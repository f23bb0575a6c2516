using System.Runtime.CompilerServices;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>Rows divided by their Euclidean norm, which is not taken below 1e-12.</summary>
internal static class UnitRow
{
    private const double SmallestNorm = 1e-12;

    /// <summary>Writes row / max(|row|, 1e-12).</summary>
    /// <returns>The factor 1 / max(|row|, 1e-12).</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static float Normalize(ReadOnlySpan<float> row, Span<float> unit)
    {
        double squares = RowMath.SumOfSquares(row);
        double factor = 1 / Math.Max(Math.Sqrt(squares), SmallestNorm);
        if (squares is > 1e-18 and < 1e30)
        {
            RowMath.Scale(row, (float)factor, unit);
            return (float)factor;
        }

        // The factor or its products leave the range of float, or nearly: rare, so double throughout.
        for (int c = 0; c < row.Length; c++)
        {
            unit[c] = (float)(row[c] * factor);
        }

        return (float)factor;
    }

    /// <summary>Whether a unit row is finite, from the factor that made it: infinity in a row makes it 0, NaN makes it NaN.</summary>
    internal static bool IsFinite(float inverseNorm) => inverseNorm > 0;

    /// <summary>
    /// Gradient of the row from the gradient of its unit row: (du - u (u . du)) / |row|, without the projection below 1e-12.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Backward(ReadOnlySpan<float> unit, float inverseNorm, ReadOnlySpan<float> dunit, Span<float> drow)
    {
        // Divided by u . u, which rounding leaves beside 1: what is left is orthogonal to the row, 0 for a row of one channel.
        double inner = 0;
        double squares = 0;
        if (inverseNorm < (float)(1 / SmallestNorm))
        {
            for (int c = 0; c < unit.Length; c++)
            {
                inner += (double)unit[c] * dunit[c];
                squares += (double)unit[c] * unit[c];
            }

            inner = squares > 0 ? inner / squares : 0;
        }

        for (int c = 0; c < unit.Length; c++)
        {
            drow[c] = (float)((dunit[c] - (unit[c] * inner)) * inverseNorm);
        }
    }
}
