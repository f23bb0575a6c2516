using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace SieveAttention.Cpu.Tiles;

/// <summary>Rows to columns: target[channel, row] = source[row, channel], both with any distance between their rows.</summary>
internal static unsafe class Transposition
{
    /// <summary>Copies rows of floats into columns. Blocks of 4 x 4 are turned in one register where there are 512-bit vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Copy(float* source, nint sourceStride, int rows, int channels, float* target, nint targetStride)
    {
        int row = 0;
        for (; Vector512.IsHardwareAccelerated && row + 4 <= rows; row += 4, source += 4 * sourceStride)
        {
            float* to = target + row;
            int channel = 0;
            for (; channel + 4 <= channels; channel += 4, to += 4 * targetStride)
            {
                float* from = source + channel;
                Vector512<float> block = Vector512.Create(
                    Vector256.Create(Vector128.Load(from), Vector128.Load(from + sourceStride)),
                    Vector256.Create(Vector128.Load(from + (2 * sourceStride)), Vector128.Load(from + (3 * sourceStride))));
                block = Vector512.Shuffle(block, Vector512.Create(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
                block.GetLower().GetLower().Store(to);
                block.GetLower().GetUpper().Store(to + targetStride);
                block.GetUpper().GetLower().Store(to + (2 * targetStride));
                block.GetUpper().GetUpper().Store(to + (3 * targetStride));
            }

            for (; channel < channels; channel++, to += targetStride)
            {
                for (int n = 0; n < 4; n++)
                {
                    to[n] = source[(n * sourceStride) + channel];
                }
            }
        }

        for (; row < rows; row++, source += sourceStride)
        {
            float* to = target + row;
            for (int channel = 0; channel < channels; channel++, to += targetStride)
            {
                *to = source[channel];
            }
        }
    }
}
