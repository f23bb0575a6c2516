using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using SieveAttention.Cpu.Schedule;
using SieveAttention.Cpu.Tiles;

namespace SieveAttention.Cpu.Threshold;

/// <summary>
/// Unit keys of one head and view as bytes, for a bound on scores that costs less than half of them and is never below them. With q' and
/// k' the rounded rows, s = q.k &lt;= q'.k' + |q - q'| |k'| + |k - k'|, so that only keys with q'.k' &gt; tau - |q - q'| |k'| - |k - k'|
/// - slack can survive. The exact score of these candidates decides.
/// </summary>
/// <remarks>
/// <para>
/// q' = a n and k' = b m with |n| &lt;= 63 and |m| &lt;= 127; b is common to a key tile, so that one bound a row serves the tile. Bytes
/// of queries are stored plus 64, because the instruction multiplies unsigned by signed bytes; <see cref="Corrections"/> takes 64 times
/// the sum of m back. Sums are 16-bit, modulo 2^16 on the way, and right at the end because each half of a row stays below 2^15: the norm
/// of a half of n is at most 127 and of m at most 255, and 127 * 255 &lt; 2^15.
/// </para>
/// <para>
/// Of a layer trained on text the head with the most survivors (B1 H1 N2048 D64 causal, 0.16 % of the visible pairs) takes 2.5 ms of
/// processor time, where softmax of the same shape takes 4.6 ms (AMD EPYC 9005).
/// </para>
/// </remarks>
internal sealed unsafe class ScreenedKeys
{
    /// <summary>Added to the bytes of queries.</summary>
    internal const int Offset = 64;

    private const float LargestQuery = 63;
    private const float LargestKey = 127;
    private const float QueryHalfNorm = 127;
    private const float KeyHalfNorm = 255;

    private readonly ColumnPanels _columns;
    private readonly float* _corrections;
    private readonly float[] _inverseSteps;
    private readonly float[] _errors;
    private readonly float[] _lengths;
    private readonly int _words;
    private readonly float _slack;

    internal ScreenedKeys(FloatArena arena, int keys, int channels, int panelColumns)
    {
        int tiles = (keys + ColumnPanels.TileRows - 1) / ColumnPanels.TileRows;
        _words = Words(channels);
        // A float score is a chain of D fused steps on rounded unit rows: off by less than (D + 4) 2^-24. The bound itself is off by less.
        _slack = (channels + 8) * (1f / (1 << 23));
        _columns = new ColumnPanels(arena, keys, _words, panelColumns);
        _corrections = arena.Take((long)tiles * ColumnPanels.TileRows);
        _inverseSteps = new float[tiles];
        _errors = new float[tiles];
        _lengths = new float[tiles];
    }

    /// <summary>32-bit words of a row of bytes.</summary>
    internal static int Words(int channels) => (channels + 3) / 4;

    /// <summary>Head dims for which the rounding of a half of a row is small beside its norm.</summary>
    internal static bool Supports(int channels) => channels <= 1024;

    /// <summary>Step of a query row.</summary>
    internal static float QueryStep(ByteRow.Extent extent, int channels) => Step(extent, LargestQuery, QueryHalfNorm, channels);

    internal RightFactor Columns(int tile) => _columns.Tile(tile);

    /// <summary>For each key of the tile two 16-bit numbers, minus 64 times the sum of each half.</summary>
    internal float* Corrections(int tile) => _corrections + ((nint)tile * ColumnPanels.TileRows);

    /// <summary>Rounds one tile of unit rows.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Fill(int tile, PaddedRows unit, int rows)
    {
        int first = tile * ColumnPanels.TileRows;
        float step = 0;
        for (int row = 0; row < rows; row++)
        {
            step = MathF.Max(step, Step(ByteRow.Measure(unit.Row(first + row), unit.Stride), LargestKey, KeyHalfNorm, unit.Channels));
        }

        using FloatArena scratch = new(FloatArena.Small);
        PaddedRows bytes = new(scratch, rows, _words);
        float error = 0;
        short* corrections = (short*)Corrections(tile);
        for (int row = 0; row < rows; row++)
        {
            ByteRow.Rounded rounded = ByteRow.Round(unit.Row(first + row), unit.Stride, step, 0, (sbyte*)bytes.Row(row));
            error = MathF.Max(error, rounded.Error);
            corrections[2 * row] = unchecked((short)(-Offset * rounded.LowSum));
            corrections[(2 * row) + 1] = unchecked((short)(-Offset * rounded.HighSum));
        }

        _columns.Fill(tile, bytes.Row(0), bytes.Stride, rows);
        // |k'| <= |k| + |k - k'|, and |k| is 1 but for its rounding.
        (_inverseSteps[tile], _errors[tile], _lengths[tile]) = (1 / step, error, 1.0001f + error);
    }

    /// <summary>What n.m, an integer, must exceed in a tile for the key to be a candidate of a row, for <see cref="QueryTile.MaxRows"/> rows.</summary>
    /// <param name="tile">The key tile.</param>
    /// <param name="tau">The threshold of each row.</param>
    /// <param name="inverseSteps">1 / step of each row.</param>
    /// <param name="errors">Norm of what rounding took from each row.</param>
    /// <param name="bounds">Receives the bounds.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Bounds(int tile, ReadOnlySpan<float> tau, ReadOnlySpan<float> inverseSteps, ReadOnlySpan<float> errors, Span<int> bounds)
    {
        Vector256<float> length = Vector256.Create(_lengths[tile]);
        Vector256<float> lost = Vector256.Create(_errors[tile] + _slack);
        Vector256<float> inverse = Vector256.Create(_inverseSteps[tile]);
        for (int row = 0; row < QueryTile.MaxRows; row += Vector256<float>.Count)
        {
            Vector256<float> least = Vector256.Create(tau[row..]) - (Vector256.Create(errors[row..]) * length) - lost;
            Vector256<float> bound = Vector256.Floor(least * (Vector256.Create(inverseSteps[row..]) * inverse));
            Vector256.ConvertToInt32(bound).CopyTo(bounds[row..]);
        }
    }

    /// <summary>The smallest step that keeps bytes and half norms in range; rounding adds at most half a unit a channel.</summary>
    private static float Step(ByteRow.Extent extent, float largest, float halfNorm, int channels)
    {
        float rounding = 0.5f * MathF.Sqrt((2 * Words(channels)) + 1);
        float step = MathF.Max(extent.Largest / largest, extent.HalfNorm / (halfNorm - rounding - 0.5f));
        return MathF.Max(step, 1e-6f);
    }
}
